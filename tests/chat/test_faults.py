"""Model providers that fail: one event that says what happened, and the chat goes on."""

import asyncio
import socket
from typing import Any

import pytest

from tests.chat.support import Talk, Talks, text_of
from tests.support.llm_script import Answer, words

pytestmark = pytest.mark.usefixtures("agent_worker")
WORKS = words(2)


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch, talks: Talks) -> None:
    """What is told when asking again is over; `test_upstreams` is about that."""
    monkeypatch.setitem(vars(talks.context.settings.chat), "llm_max_retries", 0)


async def works_again(talks: Talks, talk: Talk) -> None:
    talks.llm.script("scripted", [WORKS])
    assert text_of(await talk.stream("next")) == WORKS.text


@pytest.mark.parametrize(
    ("answer", "says", "kept"),
    [
        (Answer(status=500), "answered HTTP 500: scripted failure", None),
        (Answer(status=429, headers=(("retry-after", "7"),)), "too many requests", None),
        (Answer(status=401), "the API key was not accepted", None),
        (Answer(garbage="data: {nonsense\n\n"), "", None),
        (Answer(garbage="<html>hello</html>"), "", None),
        (Answer(chunks=("some ", "words "), cut_after=1), "cut its answer off", "some "),
        (Answer(chunks=("some ",), error="overloaded"), "overloaded", "some "),
        (Answer(chunks=("some ", "words"), hold_after=1), "was silent for", "some "),
        (Answer(header_delay=5), "was silent for", None),
    ],
    ids=["500", "429", "401", "rubbish", "html", "cut", "error", "silent", "slow"],
)
async def test_a_failing_provider_is_an_error_event(
    talks: Talks, monkeypatch: pytest.MonkeyPatch, answer: Answer, says: str, kept: str | None
) -> None:
    monkeypatch.setitem(vars(talks.context.settings.chat), "llm_timeout_seconds", 0.5)
    talk = await talks([answer], provider={"name": "Acme"})
    seen = await talk.stream("are you there?")
    assert seen[-1].name == "error"
    assert set(seen[-1].data) == {"error", "details"}
    assert seen[-1].data["details"] is None
    assert seen[-1].data["error"].startswith("LLM provider 'Acme' (model 'scripted') ")
    assert says in seen[-1].data["error"]
    assert "sk-upstream" not in seen[-1].data["error"]
    stored = [("user", "are you there?")] + ([("assistant", kept)] if kept else [])
    assert await talk.messages() == stored
    assert text_of(seen) == (kept or "")
    assert await talk.replay() == seen
    await works_again(talks, talk)


async def test_a_provider_that_is_down(talks: Talks) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    talk = await talks([WORKS])
    admin = await talks.as_("admin")
    provider = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
    await admin.patch(provider, json={"api_endpoint": dead})
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert "could not be reached" in seen[-1].data["error"]
    sent = await talk.send("and now?")
    assert sent.status_code == 502
    assert "could not be reached" in sent.json()["detail"]
    assert await talk.messages() == [("user", "hello"), ("user", "and now?")]
    await admin.patch(provider, json={"api_endpoint": talks.llm.openai_url})
    await works_again(talks, talk)


async def test_an_empty_answer_ends_and_is_not_sent_again(talks: Talks) -> None:
    talk = await talks([Answer(chunks=())])
    seen = await talk.stream()
    assert seen[-1].name == "done"
    assert text_of(seen) == ""
    sent = await talk.send("again")
    assert (sent.status_code, sent.json()["content"]) == (200, "")
    await works_again(talks, talk)
    roles = [m["role"] for m in talks.llm.requests[-1].body["messages"]]
    assert roles == ["user", "user", "user"]


async def test_text_the_database_cannot_hold_does_not_hang_the_turn(talks: Talks) -> None:
    talk = await talks([Answer(chunks=("a\x00b", " c"))])
    seen = await talk.stream()
    assert seen[-1].name == "done"
    stored = await talk.messages()
    assert stored[1][1] == "a\N{REPLACEMENT CHARACTER}b c"
    await works_again(talks, talk)


async def test_a_turn_has_its_time(talks: Talks) -> None:
    talk = await talks([Answer(chunks=("begun ", "never"), hold_after=1)], chat={"job_timeout": 1})
    seen = await talk.stream()
    assert (seen[-1].name, seen[-1].data["error"]) == (
        "error",
        "Agent execution timed out after 1 seconds.",
    )
    assert await talk.messages() == [("user", "hello"), ("assistant", "begun ")]
    sent = await talk.send()
    assert (sent.status_code, sent.json()["detail"]) == (
        504,
        "Agent execution timed out after 1 seconds.",
    )
    await works_again(talks, talk)


async def test_an_answer_without_an_end_mark_is_an_answer_or_an_error(talks: Talks) -> None:
    talk = await talks([Answer(chunks=("all of it",), finish_reason="", done=True)])
    seen = await talk.stream()
    assert (seen[-1].name, text_of(seen)) == ("done", "all of it")
    assert await talk.messages() == [("user", "hello"), ("assistant", "all of it")]


async def test_chunks_without_choices_do_no_harm(talks: Talks) -> None:
    talk = await talks([Answer(chunks=("one ", "two"), usage=(3, 2))])
    body = (await talk.send()).json()
    assert body["content"] == "one two"
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"is_active": False}, "is not active"),
        ({"default_model": None}, "has no model"),
    ],
)
async def test_a_provider_that_cannot_be_used_is_named(
    talks: Talks, change: dict[str, Any], says: str
) -> None:
    talk = await talks([WORKS], provider={"name": "Acme"})
    admin = await talks.as_("admin")
    agent = f"/api/v1/agents/{talk.agent.namespace}/{talk.agent.name}"
    assert (await admin.put(agent, json={"model": None})).status_code == 200
    provider = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
    assert (await admin.patch(provider, json=change)).status_code == 200
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert says in seen[-1].data["error"]
    assert "'Acme'" in seen[-1].data["error"]
    assert f"'{talk.agent.namespace}/{talk.agent.name}'" in seen[-1].data["error"]
    assert (await talk.send()).status_code == 422
    assert talks.llm.requests == talks.llm.requests.__class__()


async def test_many_broken_turns_do_not_block_each_other(talks: Talks) -> None:
    talk = await talks([Answer(status=500)])
    seen = await asyncio.gather(  # noqa: TID251 - all at once is the point
        *(talk.stream(f"message {n}") for n in range(6))
    )
    assert [events[-1].name for events in seen] == ["error"] * 6
    await works_again(talks, talk)
