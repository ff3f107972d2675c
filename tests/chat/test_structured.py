"""Answers that must match the agent's output schema."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sinas.chat import structured
from sinas.models import TurnStatus
from tests.chat.support import Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

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
    assert "output_schema" in answer.json()["detail"]
    turn = (await talk.turns())[-1]
    assert (turn.status, turn.error_code, turn.usage["calls"]) == (
        TurnStatus.FAILED,
        "output_invalid",
        2,
    )
    assert len(talks.llm.requests) == 2


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
        "properties": {"list": {"type": "array", "items": {"properties": {"x": {}}}}},
        "required": ["list"],
    }
    before = orjson.dumps(nested)
    form: Any = structured.response_format("a/b", nested, "mistral")
    inner = form["json_schema"]["schema"]["properties"]["list"]["items"]
    assert inner["additionalProperties"] is False
    assert form["json_schema"]["strict"] is False
    assert orjson.dumps(nested) == before


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
    ],
)
async def test_faults_name_what_is_wrong(text: str, fault: str | None) -> None:
    found = await structured.faults(text, SCHEMA)
    assert (not found) if fault is None else fault in found[0]
