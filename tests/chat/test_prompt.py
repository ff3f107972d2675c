"""What the model is sent, as tables."""

from typing import Any

import orjson
import pytest

from sinas.chat.prompt import INTERRUPTED, Instructions, Line, build, result_text
from sinas.errors import InvalidInputError
from sinas.kit.json_types import JsonObject

NOTHING = Instructions(agent="a/b", system_prompt=None, output_schema={}, agent_input={})


def call(call_id: str, name: str = "tool", arguments: str = "{}") -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        "description": "for display only",
    }


def contents(messages: list[JsonObject]) -> list[Any]:
    return [message["content"] for message in messages]


def user(text: str) -> Line:
    return Line(role="user", content=text)


def said(text: str) -> Line:
    return Line(role="assistant", content=text)


def asked(*ids: str, text: str | None = None) -> Line:
    return Line(role="assistant", content=text, tool_calls=[call(i) for i in ids])


def result(call_id: str, content: str | None = "ok") -> Line:
    return Line(role="tool", content=content, tool_call_id=call_id, name="tool")


def shape(history: list[Line], window: int = 100) -> list[str]:
    """Each message in a word: role, and the call a result is for."""
    return [
        f"{m['role']}:{m['tool_call_id']}" if m["role"] == "tool" else str(m["role"])
        for m in build(NOTHING, history, window)
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], []),
        ([user("a")], ["user"]),
        ([user("a"), said("b"), user("c")], ["user", "assistant", "user"]),
        ([user("a"), asked("1"), result("1")], ["user", "assistant", "tool:1"]),
        # Results in the order of the calls, wherever they were stored.
        (
            [user("a"), asked("1", "2"), result("2"), result("1")],
            ["user", "assistant", "tool:1", "tool:2"],
        ),
        (
            [user("a"), asked("1"), user("b"), result("1")],
            ["user", "assistant", "tool:1", "user"],
        ),
        ([user("a"), asked("1")], ["user", "assistant", "tool:1"]),
        ([result("0"), user("a")], ["user"]),
        ([user("a"), said(""), user("b")], ["user", "user"]),
        ([Line(role="system", content="s"), user("a")], ["system", "user"]),
    ],
)
def test_calls_and_results_are_paired(history: list[Line], expected: list[str]) -> None:
    assert shape(history) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (1, ["user"]),
        (2, ["assistant", "user"]),
        (3, ["assistant", "user"]),
        (4, ["assistant", "user"]),
        (5, ["assistant", "tool:1", "tool:2", "assistant", "user"]),
        (6, ["user", "assistant", "tool:1", "tool:2", "assistant", "user"]),
    ],
)
def test_the_window_never_splits_a_round(window: int, expected: list[str]) -> None:
    history = [user("a"), asked("1", "2"), result("1"), result("2"), said("b"), user("c")]
    assert shape(history, window) == expected


def test_the_newest_round_is_sent_even_when_it_is_larger_than_the_window() -> None:
    history = [user("a"), asked("1", "2", "3"), *(result(i) for i in "123")]
    assert shape(history, 2) == ["user", "assistant", "tool:1", "tool:2", "tool:3"]


def test_what_the_user_said_last_is_sent_however_much_followed() -> None:
    rounds = [line for i in "123456" for line in (asked(i), result(i))]
    history = [user("old"), said("b"), user("new"), *rounds]
    messages = build(NOTHING, history, 4)
    assert shape(history, 4) == ["user", "assistant", "tool:5", "assistant", "tool:6"]
    assert messages[0]["content"] == "new"


def test_a_missing_result_is_reported() -> None:
    messages = build(NOTHING, [user("a"), asked("1", "2"), result("2", None)], 100)
    assert [m["content"] for m in messages[2:]] == [INTERRUPTED, INTERRUPTED]
    assert messages[2]["name"] == "tool"


def test_an_id_that_comes_again_belongs_to_the_newest_call_before_its_result() -> None:
    history = [
        *(user("a"), asked("1"), result("1", "first"), said("b")),
        *(user("c"), asked("1"), user("d"), asked("1"), result("1", "third")),
    ]
    messages = build(NOTHING, history, 100)
    results = [m["content"] for m in messages if m["role"] == "tool"]
    assert results == ["first", INTERRUPTED, "third"]


def test_what_is_for_display_is_not_sent() -> None:
    (_, message, _) = build(NOTHING, [user("a"), asked("1", text="look")], 100)
    assert message == {
        "role": "assistant",
        "content": "look",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "tool", "arguments": "{}"}}
        ],
    }


@pytest.mark.parametrize("arguments", ['{"x": ', "", "[1]", "null", "5"])
def test_broken_arguments_are_sent_as_none(arguments: str) -> None:
    line = Line(role="assistant", content=None, tool_calls=[call("1", arguments=arguments)])
    message: Any = build(NOTHING, [line], 100)[0]
    assert message["tool_calls"][0]["function"] == {"name": "tool", "arguments": "{}"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text", "text"),
        ('[{"type":"text","text":"hi"}]', [{"type": "text", "text": "hi"}]),
        ("[1, 2]", "[1, 2]"),
        ("[not json", "[not json"),
        ("[{}]", "[{}]"),
        (None, None),
    ],
)
def test_parts_are_recognised(content: str | None, expected: object) -> None:
    assert build(NOTHING, [Line(role="user", content=content)], 9)[0]["content"] == expected


SCHEMA: JsonObject = {"type": "object", "properties": {"answer": {"type": "string"}}}


@pytest.mark.parametrize(
    ("prompt", "given", "expected"),
    [
        ("Help {{ name }}.", {"name": "Ann & <Bob>"}, "Help Ann & <Bob>."),
        ("Keep {{ name }}", {}, "Keep {{ name }}"),
        ("{% if vip %}Very {% endif %}nice", {"vip": True}, "Very nice"),
        ("{{ who.name }}", {"who": {"name": "x"}}, "x"),
        ("For {{ user.email }}", {}, "For ann@example.com"),
        ("For {{ user.email }}", {"user": {"email": "x"}}, "For ann@example.com"),
        ("The user {{ said }}", {}, "The user {{ said }}"),
    ],
)
def test_the_system_prompt_is_a_template_over_the_input(
    prompt: str, given: Any, expected: str
) -> None:
    instructions = Instructions(
        agent="a/b",
        system_prompt=prompt,
        output_schema={},
        agent_input=given,
        user={"id": "1", "email": "ann@example.com"},
    )
    assert build(instructions, [], 9) == [{"role": "system", "content": expected}]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("Help {{ nmae }}.", "nmae"),
        ("{{ name.__class__.__mro__ }}", "__class__"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_prompt_that_cannot_be_rendered_names_agent_and_reason(prompt: str, says: str) -> None:
    instructions = Instructions(
        agent="shop/helper", system_prompt=prompt, output_schema={}, agent_input={"name": "Ann"}
    )
    with pytest.raises(InvalidInputError) as caught:
        build(instructions, [user("a")], 9)
    assert "shop/helper" in caught.value.message
    assert says in caught.value.message


def test_an_output_schema_becomes_an_instruction_after_the_prompt() -> None:
    instructions = Instructions(
        agent="a/b", system_prompt="Be kind.", output_schema=SCHEMA, agent_input={}
    )
    content = str(build(instructions, [], 9)[0]["content"])
    prompt, _, rest = content.partition("\n\n")
    assert prompt == "Be kind."
    fenced = rest.split("```json\n")[1].split("\n```")[0]
    assert orjson.loads(fenced) == SCHEMA


def test_no_prompt_and_no_schema_is_no_system_message() -> None:
    empty = Instructions(agent="a/b", system_prompt="", output_schema={}, agent_input={"x": 1})
    assert build(empty, [user("a")], 9) == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", "ümläut", {"a": [1, {"b": None}]}, [], ["x"], "", {"nul": "a\x00b"}],
)
def test_short_results_are_plain_json(value: Any) -> None:
    assert orjson.loads(result_text(value, 1000)) == value


@pytest.mark.parametrize(
    ("value", "total"),
    [
        (["row"] * 1000, 1000),
        (["x" * 5000, "y"], 2),
        ("x" * 5000, 5000),
        ("ü" * 5000, 5000),
        ('"\n' * 3000, 6000),
        ({"key": "v" * 5000}, len('{"key": ""}') + 5000),
    ],
)
def test_long_results_stay_valid_json_within_their_limit(value: Any, total: int) -> None:
    text = result_text(value, 1000)
    assert len(text.encode()) <= 1200
    cut = orjson.loads(text)
    assert cut["_truncated"] is True
    assert cut["total"] == total
    assert cut["returned"] < total
    if isinstance(value, list):
        assert cut["items"] == value[: cut["returned"]]
    else:
        assert len(cut["preview"]) == cut["returned"] > 0


def test_what_is_to_be_answered_comes_last() -> None:
    answer = Line(role="assistant", content="to a")
    assert contents(build(NOTHING, [user("a"), user("b"), answer], 9)) == ["a", "to a", "b"]
    assert contents(build(NOTHING, [user("a"), answer, user("b")], 9)) == ["a", "to a", "b"]
    assert contents(build(NOTHING, [answer], 9)) == ["to a"]
