"""Model servers that misbehave, each with the outcome docs/reference/model-failures.md promises."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from sinas.models import Execution, Message, ToolCall
from tests.chat.support import Seen, Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.factories.memory import make_skill
from tests.support.llm_script import Answer, Call, words
from tests.support.outside import Outside

pytestmark = pytest.mark.usefixtures("agent_worker")
WORKS = words(2)
FINAL = Answer(chunks=("all ", "done"))
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"some "},"finish_reason":null}]}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinas.llm.retrying._FIRST_PAUSE_SECONDS", 0.01)


def limit(talks: Talks, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    for name, value in values.items():
        monkeypatch.setitem(vars(talks.context.settings.chat), name, value)


def retry_after(seconds: str) -> tuple[tuple[str, str], ...]:
    return (("retry-after", seconds),)


async def works_again(talks: Talks, talk: Talk) -> None:
    talks.llm.script("scripted", [WORKS])
    assert text_of(await talk.stream("next")) == WORKS.text


PASSING = {
    "429": Answer(status=429),
    "429 with Retry-After": Answer(status=429, headers=retry_after("0.2")),
    "500": Answer(status=500),
    "503": Answer(status=503),
    "cut before the first piece": Answer(cut_after=0),
    "an overload told in the stream": Answer(
        garbage='data: {"error": {"message": "overloaded", "code": 503}}\n\n'
    ),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_what_passes_is_seen_by_nobody(talks: Talks, fault: Answer) -> None:
    talk = await talks([fault, fault, WORKS], by="call")
    began = time.monotonic()
    seen = await talk.stream()
    assert (names(seen), text_of(seen)) == (["message", "done"], WORKS.text)
    assert len(talks.llm.requests) == 3
    assert len({orjson.dumps(request.body) for request in talks.llm.requests}) == 1
    assert await talk.messages() == [("user", "hello"), ("assistant", WORKS.text)]
    [turn] = await talk.turns()
    assert (turn.usage["calls"], turn.usage["errors"]) == (1, 0)
    waits = 2 * float(dict(fault.headers).get("retry-after", 0))
    assert time.monotonic() - began >= waits


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_what_does_not_pass_is_told_after_two_retries(talks: Talks, fault: Answer) -> None:
    talk = await talks([fault], by="call", provider={"name": "Acme"})
    seen = await talk.stream()
    assert names(seen) == ["error"]
    assert seen[0].data["error"].startswith("LLM provider 'Acme' (model 'scripted') ")
    assert len(talks.llm.requests) == 3
    answer = await talk.send("again")
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_error")
    assert await talk.messages() == [("user", "hello"), ("user", "again")]
    await works_again(talks, talk)


@dataclass(frozen=True)
class Final:
    """A failure that is told at once: what is said of it, and the text that is kept."""

    answer: Answer
    says: str
    kept: str = ""


FINAL_FAULTS = {
    "429 that asks to wait for too long": Final(
        Answer(status=429, headers=retry_after("3600")), "it asks to wait 3600 (Retry-After)"
    ),
    "an account without money": Final(
        Answer(status=429, body='{"error": {"message": "no money", "code": "insufficient_quota"}}'),
        "no money",
    ),
    "400": Final(Answer(status=400), "answered HTTP 400: scripted failure"),
    "401": Final(Answer(status=401), "the API key was not accepted"),
    "404": Final(Answer(status=404), "no such model or path"),
    "302": Final(Answer(status=302, body=""), "a redirect, which is not followed"),
    "cut in the middle": Final(
        Answer(chunks=("some ", "words "), cut_after=1), "cut its answer off", "some "
    ),
    "cut in a tool call": Final(
        Answer(chunks=("Let me. ",), calls=(Call("shop__find", '{"x": 1}'),), cut_after=3),
        "cut its answer off",
        "Let me. ",
    ),
    "an error in the middle": Final(
        Answer(chunks=("some ",), error="overloaded"), "overloaded", "some "
    ),
    "silence before the answer": Final(
        Answer(header_delay=30), "was silent for 2 seconds before its answer"
    ),
    "silence in the middle": Final(
        Answer(chunks=("some ", "words"), hold_after=1),
        "was silent for 2 seconds in the middle",
        "some ",
    ),
    "a page": Final(
        Answer(body="<html>Welcome</html>", content_type="text/html"),
        "sent something that is not a chat completion: '<html>Welcome</html>'",
    ),
    "a stream that calls itself JSON": Final(
        Answer(body=CHUNK.decode(), content_type="application/json"),
        "sent something that is not a chat completion",
    ),
    "JSON that breaks off": Final(
        Answer(garbage='data: {"choices": [\n\n'), "sent something that is not a chat completion"
    ),
    "JSON that is no object": Final(
        Answer(garbage="data: [1, 2]\n\n"), "sent something that is not a chat completion"
    ),
    "a whole answer without choices": Final(
        Answer(body='{"choices": []}'), "sent something that is not a chat completion"
    ),
    "nothing at all": Final(Answer(garbage=""), "sent an empty response"),
}


@pytest.mark.parametrize("fault", FINAL_FAULTS.values(), ids=FINAL_FAULTS)
async def test_other_failures_are_told_at_once(
    talks: Talks, monkeypatch: pytest.MonkeyPatch, fault: Final
) -> None:
    limit(talks, monkeypatch, llm_timeout_seconds=2)
    talk = await talks([fault.answer], by="call")
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert fault.says in seen[-1].data["error"]
    assert len(talks.llm.requests) == 1
    assert text_of(seen) == fault.kept
    kept = [("assistant", fault.kept)] if fault.kept else []
    assert await talk.messages() == [("user", "hello"), *kept]
    [turn] = await talk.turns()
    assert (turn.status, turn.error_code, turn.usage["errors"]) == ("failed", "upstream_error", 1)
    await works_again(talks, talk)


RAW = {
    "invalid UTF-8": (
        STREAM + CHUNK + b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
        "sent something that is not a chat completion",
        "some ",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "closed the connection without an answer", ""),
    "chunks that are none": (
        STREAM.replace(b"connection: close", b"transfer-encoding: chunked") + b"nonsense\r\n",
        "closed the connection without an answer",
        "",
    ),
}


@pytest.mark.parametrize(("raw", "says", "kept"), RAW.values(), ids=RAW)
async def test_bytes_that_are_no_answer(talks: Talks, raw: bytes, says: str, kept: str) -> None:
    async with Outside(tls=False) as server:
        server.answer = raw
        talk = await at(talks, server)
        seen = await talk.stream()
    assert seen[-1].name == "error"
    assert says in seen[-1].data["error"]
    assert text_of(seen) == kept


async def at(talks: Talks, server: Outside) -> Talk:
    """A conversation whose provider is that server."""
    talk = await talks([WORKS])
    admin = await talks.as_("admin")
    provider = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
    changed = await admin.patch(provider, json={"api_endpoint": f"{server.url}/v1"})
    assert changed.status_code == 200
    return talk


async def test_a_server_that_only_ever_sends_comments_runs_into_the_turns_limit(
    talks: Talks,
) -> None:
    left = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + CHUNK)
        try:
            while True:
                writer.write(b": still here\n\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        talk = await talks([WORKS], chat={"job_timeout": 1})
        admin = await talks.as_("admin")
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        provider = f"/api/v1/llm-providers/{talk.agent.llm_provider_id}"
        await admin.patch(provider, json={"api_endpoint": url})
        seen = await talk.stream()
        await asyncio.wait_for(left.wait(), 5)
    assert seen[-1].data["error"] == "Agent execution timed out after 1 seconds."
    assert await talk.messages() == [("user", "hello"), ("assistant", "some ")]


UNDERSTOOD = {
    "a stream of another content type": Answer(chunks=("a", "b"), content_type="text/plain"),
    "one JSON text in place of a stream": Answer(chunks=("a", "b"), plain=True),
    "no finish_reason": Answer(chunks=("a", "b"), finish_reason=""),
    "no end mark": Answer(chunks=("a", "b"), done=False),
    "chunks without choices between": Answer(
        garbage='data: {"choices":[]}\n\ndata: {"choices":[{"delta":{"content":"ab"}}]}\n\n'
        'data: {"choices":[],"usage":null}\n\ndata: [DONE]\n\n'
    ),
    "two choices": Answer(
        garbage='data: {"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"xy"}}]}\n\n'
        "data: [DONE]\n\n"
    ),
}


@pytest.mark.parametrize("answer", UNDERSTOOD.values(), ids=UNDERSTOOD)
async def test_sloppy_answers_are_answers(talks: Talks, answer: Answer) -> None:
    talk = await talks([answer], by="call")
    seen = await talk.stream()
    assert (text_of(seen), seen[-1].data) == ("ab", {"status": "completed"})
    assert await talk.messages() == [("user", "hello"), ("assistant", "ab")]
    assert len(talks.llm.requests) == 1


EMPTY = {
    "no text": Answer(chunks=()),
    "blank text": Answer(chunks=("",)),
    "only chunks without choices": Answer(garbage='data: {"choices":[]}\n\ndata: [DONE]\n\n'),
    "only an end mark": Answer(garbage="data: [DONE]\n\n"),
}


@pytest.mark.parametrize("answer", EMPTY.values(), ids=EMPTY)
async def test_an_empty_answer_ends_the_turn_and_is_not_shown_to_a_model(
    talks: Talks, answer: Answer
) -> None:
    talk = await talks([answer], by="call")
    seen = await talk.stream()
    assert (text_of(seen), seen[-1].data) == ("", {"status": "completed"})
    assert await talk.messages() == [("user", "hello"), ("assistant", "")]
    await works_again(talks, talk)
    assert [m["role"] for m in talks.llm.requests[-1].body["messages"]] == ["user", "user"]


async def test_a_huge_answer_is_ended_with_what_came_so_far(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(talks, monkeypatch, llm_max_answer_chars=1000)
    talk = await talks([Answer(chunks=("0123456789",) * 200, delay=0.001)], by="call")
    seen = await talk.stream()
    assert (seen[-1].name, len(talks.llm.requests)) == ("error", 1)
    assert "more than 1000 characters (LLM_MAX_ANSWER_CHARS)" in seen[-1].data["error"]
    [_, (role, kept)] = await talk.messages()
    assert role == "assistant"
    assert kept is not None
    assert 1000 <= len(kept) <= 1020
    await asyncio.wait_for(talks.llm.requests[0].disconnected.wait(), 5)
    await works_again(talks, talk)


async def test_huge_arguments_count_too(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(talks, monkeypatch, llm_max_answer_chars=1000)
    call = Call("shop__find", orjson.dumps({"x": "y" * 5000}).decode(), pieces=50)
    talk = await talks([Answer(calls=(call,))], by="call")
    seen = await talk.stream()
    assert "LLM_MAX_ANSWER_CHARS" in seen[-1].data["error"]
    assert await talk.messages() == [("user", "hello")]


def results(talks: Talks) -> list[str]:
    """Contents of the tool results in the newest request."""
    messages = talks.llm.requests[-1].body["messages"]
    return [m["content"] for m in messages if m["role"] == "tool"]


@pytest.mark.parametrize(
    ("arguments", "is_sent_as"),
    [
        ('{"x": ', "{}"),
        ("[1, 2]", "{}"),
        ('"text"', "{}"),
        ("nonsense", "{}"),
        ("\ufffd", "{}"),
    ],
)
async def test_broken_arguments_come_back_as_a_result(
    talks: Talks, arguments: str, is_sent_as: str
) -> None:
    """The model can try again, and gets what it wrote in a form that servers take."""
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="find")
    talk = await talks(
        [Answer(calls=(Call("shop__find", arguments),)), FINAL], enabled_functions=["shop/find"]
    )
    seen = await talk.stream()
    assert (text_of(seen), seen[-1].name) == (FINAL.text, "done")
    [told] = results(talks)
    assert orjson.loads(told) == {
        "error": "Invalid arguments",
        "message": "The arguments must be one JSON object.",
        "raw_arguments": arguments,
    }
    call = talks.llm.requests[-1].body["messages"][-2]["tool_calls"][0]
    assert call["function"]["arguments"] == is_sent_as
    async with talks.context.sessions() as session:
        assert await session.scalar(select(func.count(Execution.id))) == 0


async def test_an_unknown_tool_comes_back_as_a_result(talks: Talks) -> None:
    talk = await talks([Answer(calls=(Call("shop__steal", "{}"),)), FINAL])
    seen = await talk.stream()
    assert (text_of(seen), seen[-1].name) == (FINAL.text, "done")
    [told] = results(talks)
    assert orjson.loads(told)["error"] == "Unauthorized tool call"
    assert "shop__steal" in orjson.loads(told)["message"]


async def skilled(talks: Talks, *rounds: tuple[Call, ...]) -> Talk:
    """A conversation whose model makes those calls, of tools that need no worker."""
    user = await talks.as_.user()
    await make_skill(talks.context, user, "The text.", namespace="ours", name="skill")
    answers = [Answer(calls=calls) for calls in rounds]
    return await talks([*answers, FINAL], by="call", enabled_skills=[{"skill": "ours/skill"}])


async def call_ids(talk: Talk) -> list[str]:
    async with talk.context.sessions() as session:
        statement = (
            select(ToolCall.call_id)
            .join(Message, Message.id == ToolCall.message_id)
            .order_by(Message.seq, ToolCall.position)
        )
        return list((await session.scalars(statement)).all())


async def test_ids_that_repeat_are_made_different(talks: Talks) -> None:
    twice = (Call("get_skill_ours_skill", id="call_0"), Call("get_skill_ours_skill", id="call_0"))
    talk = await skilled(talks, twice, twice)
    seen = await talk.stream()
    assert (text_of(seen), seen[-1].name) == (FINAL.text, "done")
    ids = await call_ids(talk)
    assert len(set(ids)) == 4
    assert ids[0] == "call_0"
    messages = talks.llm.requests[-1].body["messages"]
    asked = [call["id"] for m in messages for call in m.get("tool_calls", ())]
    answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert asked == answered == ids
    assert all("The text." in content for content in results(talks))


async def test_ids_that_are_missing_are_made(talks: Talks) -> None:
    nameless = (Call("get_skill_ours_skill", id=None), Call("get_skill_ours_skill", id=None))
    talk = await skilled(talks, nameless)
    seen = await talk.stream()
    assert seen[-1].name == "done"
    ids = await call_ids(talk)
    assert len(set(ids)) == 2
    assert all(ids)


def most_at_once(seen: list[Seen]) -> int:
    """How many calls ran at the same time, as clients see it."""
    running = most = 0
    for event in seen:
        running += {"tool_start": 1, "tool_end": -1}.get(event.name, 0)
        most = max(most, running)
    return most


async def test_two_hundred_calls_in_one_answer(talks: Talks) -> None:
    calls = tuple(Call("get_skill_ours_skill", id=f"call_{n}", pieces=1) for n in range(200))
    talk = await skilled(talks, calls)
    seen = await talk.stream("use them")
    assert (text_of(seen), seen[-1].data) == (FINAL.text, {"status": "completed"})
    assert Counter(e.name for e in seen)["tool_end"] == 200
    assert most_at_once(seen) == talk.context.settings.chat.max_parallel_tool_calls == 10
    messages = [m for m in talks.llm.requests[-1].body["messages"] if m["role"] != "system"]
    assert [m["role"] for m in messages] == ["user", "assistant", *["tool"] * 200]
    assert messages[0]["content"] == "use them"
    assert [m["tool_call_id"] for m in messages[2:]] == [f"call_{n}" for n in range(200)]
    assert all("The text." in content for content in results(talks))


async def test_calls_side_by_side_are_as_many_as_is_set(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(talks, monkeypatch, max_parallel_tool_calls=3)
    talk = await skilled(talks, tuple(Call("get_skill_ours_skill", id=str(n)) for n in range(12)))
    assert most_at_once(await talk.stream()) == 3


async def test_more_calls_than_allowed_fail_the_turn_and_none_runs(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(talks, monkeypatch, max_tool_calls=5)
    talk = await skilled(talks, tuple(Call("get_skill_ours_skill", id=str(n)) for n in range(6)))
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert "made more than 5 tool calls in one answer (MAX_TOOL_CALLS)" in seen[-1].data["error"]
    assert await call_ids(talk) == []
    assert not [event for event in seen if event.name.startswith("tool_")]
    await works_again(talks, talk)
