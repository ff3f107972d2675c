"""Answers that must match the agent's output schema."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from sinas.chat import structured
from sinas.models import TurnStatus
from tests.chat.support import Talk, Talks, names, text_of
from tests.chat.test_takeover import expire
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.fixtures.state import in_own_task
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.worker import RunningWorker

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["city", "size"],
}
GOOD = Answer(chunks=('{"city": "Bern",', ' "size": 3}'))
BAD = Answer(chunks=('{"city": ', "7}"))
PROSE = Answer(chunks=("It is ", "Bern."))
FENCED = Answer(chunks=("```json\n", '{"city": "Bern", "size": 3}', "\n```"))
workers = pytest.mark.usefixtures("agent_worker", "function_worker")


async def describing(talks: Talks, *answers: Answer, **agent: Any) -> Talk:
    return await talks(list(answers), by="call", output_schema=SCHEMA, **agent)


async def shown_and_stored(talk: Talk) -> tuple[str, str | None]:
    """What a replay shows, and the last message."""
    return text_of(await talk.replay()), (await talk.messages())[-1][1]


@workers
async def test_the_provider_is_told_the_form_in_every_round(talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    talk = await describing(
        talks,
        Answer(calls=(Call("shop__echo"),)),
        GOOD,
        namespace="shop",
        name="My Helper",
        enabled_functions=["shop/*"],
    )
    seen = await talk.stream()
    assert orjson.loads(text_of(seen)) == {"city": "Bern", "size": 3}
    forms = [request.body["response_format"] for request in talks.llm.requests]
    assert len(forms) == 2
    assert (
        forms[0]
        == forms[1]
        == {
            "type": "json_schema",
            "json_schema": {
                "name": "my_helper_response",
                "strict": True,
                "schema": {**SCHEMA, "additionalProperties": False},
            },
        }
    )


@workers
@pytest.mark.parametrize("wrong", [BAD, PROSE])
async def test_a_wrong_answer_is_asked_for_once_more(talks: Talks, wrong: Answer) -> None:
    talk = await describing(talks, wrong, GOOD)
    seen = await talk.stream()
    assert "reset" in names(seen)
    assert seen[-1].data == {"status": "completed"}
    shown, stored = await shown_and_stored(talk)
    assert shown == stored == text_of(seen) == GOOD.text
    told = talks.llm.requests[-1].body["messages"][-2:]
    assert told[0] == {"role": "assistant", "content": wrong.text}
    assert "does not match the schema" in told[1]["content"]
    assert [role for role, _ in await talk.messages()] == ["user", "assistant"]
    assert (await talk.turns())[-1].usage["calls"] == 2


@workers
async def test_wrong_twice_is_an_error(talks: Talks) -> None:
    talk = await describing(talks, BAD)
    answer = await talk.send()
    assert (answer.status_code, answer.json()["code"]) == (502, "output_invalid")
    assert "output_schema: size: 'size' is a required property" in answer.json()["detail"]
    turn = (await talk.turns())[-1]
    assert (turn.status, turn.error_code, turn.usage["calls"]) == (
        TurnStatus.FAILED,
        "output_invalid",
        2,
    )
    assert len(talks.llm.requests) == 2
    seen = await talk.stream()
    assert names(seen) == ["message", "reset", "message", "reset", "error"]
    assert names(await talk.replay())[-1] == "error"
    # Nobody can mistake for an answer what is none.
    assert (text_of(seen), [role for role, _ in await talk.messages()]) == ("", ["user", "user"])


@workers
async def test_invoke_replies_with_the_repaired_json(talks: Talks) -> None:
    talk = await describing(talks, BAD, GOOD)
    path = f"/agents/{talk.agent.namespace}/{talk.agent.name}/invoke"
    answer = await talk.client.post(path, json={"message": "hello"})
    assert answer.json()["reply"] == GOOD.text
    assert answer.json()["usage"]["calls"] == 2


@workers
async def test_a_wrong_answer_after_tools_is_repaired(talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    look = Answer(chunks=("Let me look.",), calls=(Call("shop__echo"),))
    talk = await describing(talks, look, PROSE, GOOD, enabled_functions=["shop/*"])
    seen = await talk.stream()
    assert names(seen)[:3] == ["message", "tool_start", "tool_end"]
    assert names(seen)[3:] == ["message", "reset", "message", "done"]
    assert text_of(await talk.replay()) == "Let me look." + GOOD.text
    last = talks.llm.requests[-1].body
    assert "tools" not in last
    assert [m["role"] for m in last["messages"][1:]] == [
        "user", "assistant", "tool", "assistant", "user"
    ]  # fmt: skip


@workers
async def test_what_is_held_back_is_repaired_unseen(talks: Talks) -> None:
    await make_function(
        talks.context,
        await talks.as_.user(),
        namespace="hooks",
        name="pass",
        code="def handler(input_data, context):\n    return None\n",
        output_schema={},
    )
    hooks = {"on_assistant_message": [{"function": "hooks/pass", "hold_back": True}]}
    talk = await describing(talks, BAD, FENCED, hooks=hooks)
    seen = await talk.stream()
    assert names(seen) == ["message", "done"]
    assert text_of(seen) == GOOD.text


@workers
async def test_a_sub_agent_answers_with_checked_json(talks: Talks) -> None:
    talks.llm.script("helper", [PROSE, GOOD], by="call")
    await make_agent(
        talks.context,
        await talks.as_.user(),
        provider=await make_provider(talks.context, talks.llm.openai_url, name="helping"),
        namespace="team",
        name="helper",
        model="helper",
        output_schema=SCHEMA,
    )
    ask = Call("call_agent_team__helper", '{"prompt": "help me"}', id="call_0")
    talk = await talks([Answer(calls=(ask,)), PROSE], enabled_agents=["team/helper"])
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["response"] == GOOD.text


@workers
@pytest.mark.parametrize("wire", ["anthropic", "mistral", "ollama"])
async def test_other_providers_are_told_and_checked(talks: Talks, wire: str) -> None:
    talk = await describing(talks, PROSE, GOOD, provider={"provider_type": wire})
    if wire != "mistral":
        admin = await talks.as_("admin")
        path = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
        await admin.patch(path, json={"api_endpoint": talks.llm.url})
    assert text_of(await talk.stream()) == GOOD.text
    asked = [r.body for r in talks.llm.requests if r.body.get("messages")]
    assert len(asked) == 2
    for body in asked:
        closed = {**SCHEMA, "additionalProperties": False}
        match wire:
            case "anthropic":
                assert '"city"' in str(body["system"])
                assert not {"output_format", "tools"} & body.keys()
            case "mistral":
                assert body["response_format"]["json_schema"]["schema"] == closed
            case _:
                assert body["format"] == closed


@workers
async def test_a_successor_goes_on_where_a_worker_died_in_a_repair(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    held = replace(GOOD, hold_after=1)
    talk = await talks([BAD, held], by="call", output_schema=SCHEMA, live=live)
    async with talk.streaming() as stream:
        await stream.text('{"city": "Bern"')
        talks.llm.script("scripted", [BAD, GOOD], by="call")
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await stream.rest()
    shown, stored = await shown_and_stored(talk)
    assert text_of(stream.seen) == shown == stored == GOOD.text


@workers
async def test_a_fence_is_taken_off(talks: Talks) -> None:
    talk = await describing(talks, FENCED)
    seen = await talk.stream()
    shown, stored = await shown_and_stored(talk)
    assert shown == stored == text_of(seen) == '{"city": "Bern", "size": 3}'
    assert len(talks.llm.requests) == 1


@workers
async def test_a_server_that_knows_no_form_gets_none(talks: Talks) -> None:
    refusal = Answer(status=400, body='{"error": {"message": "Unknown field response_format"}}')
    talk = await describing(talks, refusal, GOOD)
    assert text_of(await talk.stream()) == GOOD.text
    assert "response_format" not in talks.llm.requests[-1].body


@workers
async def test_free_answers_stay_free(talks: Talks) -> None:
    talk = await talks([PROSE], output_schema={"type": "object"})
    assert text_of(await talk.stream()) == PROSE.text
    assert "response_format" not in talks.llm.requests[0].body


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "required": ["city"]}, False),
        ({**SCHEMA, "additionalProperties": True}, False),
    ],
)
def test_strict_only_where_the_schema_allows_it(schema: Any, is_strict: bool) -> None:
    form: Any = structured.response_format("a/b", schema, "openai")
    assert form["json_schema"]["strict"] is is_strict
    assert form["json_schema"]["schema"]["additionalProperties"] is schema.get(
        "additionalProperties", False
    )


def test_objects_inside_are_closed_and_the_schema_is_not_changed() -> None:
    nested: Any = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"properties": {"x": {}}}},
            # Names and values that look like schemas.
            "properties": {"type": "string"},
            "default": {"const": {"properties": {"x": 1}}},
            "both": {"allOf": [{"properties": {"x": {}}}, {"properties": {"y": {}}}]},
            "either": {"anyOf": [{"$ref": "#/$defs/thing"}, {"type": "null"}]},
        },
        "$defs": {"thing": {"type": "object", "properties": {"x": {}}, "required": ["x"]}},
    }
    before = orjson.dumps(nested)
    form: Any = structured.response_format("b", nested, "mistral")
    closed = form["json_schema"]["schema"]
    inner = closed["properties"]
    assert closed["additionalProperties"] is False
    assert inner["list"]["items"]["additionalProperties"] is False
    assert closed["$defs"]["thing"]["additionalProperties"] is False
    for name in ("properties", "default", "both", "either"):
        assert inner[name] == nested["properties"][name]
    assert form["json_schema"]["strict"] is False
    assert orjson.dumps(nested) == before


@pytest.mark.parametrize(
    ("inside", "is_strict"),
    [
        ({"type": "string"}, True),
        ({"type": ["object", "null"], "properties": {"x": {}}, "required": ["x"]}, True),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, True),
        ({"enum": [{"type": "object"}]}, True),
        ({"type": "object"}, False),  # strict modes know no free objects
        ({"type": "array", "items": {"type": ["object"]}}, False),
        ({"oneOf": [{"type": "string"}]}, False),
        ({"type": "object", "additionalProperties": {"type": "string"}}, False),
    ],
)
def test_strict_only_where_all_of_the_schema_allows_it(inside: Any, is_strict: bool) -> None:
    schema: Any = {"type": "object", "properties": {"x": inside}, "required": ["x"]}
    form: Any = structured.response_format("b", schema, "openai")
    assert form["json_schema"]["strict"] is is_strict


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("helper", "helper_response"),
        ("My Helper (v2)", "my_helper_v2_response"),
        ("x" * 200, "x" * 55 + "_response"),
    ],
)
def test_forms_have_names_that_providers_take(agent: str, name: str) -> None:
    form: Any = structured.response_format(agent, SCHEMA, "openai")
    assert form["json_schema"]["name"] == name


def test_nobody_is_told_what_they_cannot_take() -> None:
    assert structured.response_format("a/b", SCHEMA, "anthropic") is None
    assert structured.response_format("a/b", {}, "openai") is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"city": "Bern", "size": 3}', None),
        ('```\n{"city": "Bern", "size": 3}\n```', None),
        ('{"city": "Bern"}', "size"),
        ("Bern", "it is no JSON"),
        ("", "it is no JSON"),
        ("[]", "object"),
        (f'{{"city": "{"x" * 40_000}", "size": "3"}}', "size"),
    ],
)
async def test_faults_name_what_is_wrong(text: str, fault: str | None) -> None:
    found = await structured.faults(text, SCHEMA)
    assert (not found) if fault is None else fault in found[0]
