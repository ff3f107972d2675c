"""The relay: what a provider sends is what a client gets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from sinas.errors import UpstreamError
from sinas.llm.base import Provider
from sinas.llm.direct import DirectAnswer, DirectRequest
from sinas.llm.failures import RefusedError
from sinas.llm.pool import StreamPool
from sinas.llm.relay import OpenAiRelay
from tests.support.llm_client import KEY
from tests.support.llm_script import Answer, words
from tests.support.llm_upstream import LlmUpstream

HELLO = Answer(chunks=("hel", "lo"), usage=(3, 2))


@pytest.fixture
async def relay() -> AsyncIterator[OpenAiRelay]:
    pool = StreamPool()
    yield OpenAiRelay(pool)
    await pool.aclose()


def request(upstream: LlmUpstream | str, *, seconds: float = 5.0, **body: Any) -> DirectRequest:
    endpoint = upstream if isinstance(upstream, str) else upstream.openai_url
    given = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], **body}
    provider = Provider(name="p", type="openai", endpoint=endpoint, api_key=KEY)
    return DirectRequest(provider=provider, model="m", body=given, timeout_seconds=seconds)


async def read_into(seen: list[bytes], answer: DirectAnswer) -> None:
    assert answer.pieces is not None
    async for piece in answer.pieces:
        seen.append(piece)  # noqa: PERF401 - what came before an error counts


async def events_of(answer: DirectAnswer) -> list[bytes]:
    assert answer.pieces is not None
    pieces = [piece async for piece in answer.pieces]
    assert all(piece.endswith(b"\n") for piece in pieces)
    lines = b"".join(pieces).split(b"\n")
    return [line.removeprefix(b"data: ") for line in lines if line]


async def test_a_whole_answer_is_the_providers_bytes(
    relay: OpenAiRelay, upstream: LlmUpstream
) -> None:
    body = '{ "choices":[{"index":0,"message":{"content":"x"},"new":1}], "usage":{"prompt_tokens":3,"completion_tokens":2} }'
    upstream.script("m", [Answer(body=body)])

    answer = await relay.ask(request(upstream, seed=7, unheard_of={"a": [1]}))

    assert answer.whole == body.encode()
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 5)
    sent = upstream.requests[0]
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "seed": 7,
        "unheard_of": {"a": [1]},
    }
    assert sent.headers["authorization"] == f"Bearer {KEY}"


async def test_a_stream_is_relayed_and_counted(relay: OpenAiRelay, upstream: LlmUpstream) -> None:
    upstream.script("m", [HELLO])

    answer = await relay.ask(request(upstream, stream=True))
    seen = await events_of(answer)

    assert seen[-1] == b"[DONE]"
    chunks = [orjson.loads(event) for event in seen[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "hello"
    assert all("usage" not in chunk for chunk in chunks)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)
    assert upstream.requests[0].body["stream_options"] == {"include_usage": True}


async def test_who_asks_for_usage_gets_it(relay: OpenAiRelay, upstream: LlmUpstream) -> None:
    upstream.script("m", [HELLO])
    options = {"include_usage": True, "other": 1}

    answer = await relay.ask(request(upstream, stream=True, stream_options=options))
    seen = await events_of(answer)

    last = orjson.loads(seen[-2])
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 5)
    assert answer.usage is not None
    assert upstream.requests[0].body["stream_options"] == options


async def test_a_server_without_stream_options_is_remembered(
    relay: OpenAiRelay, upstream: LlmUpstream
) -> None:
    upstream.script("m", [Answer(chunks=("x",), refuse_stream_options=True)])

    for _ in range(2):
        answer = await relay.ask(request(upstream, stream=True))
        assert (await events_of(answer))[-1] == b"[DONE]"

    assert ["stream_options" in r.body for r in upstream.requests] == [True, False, False]
    with pytest.raises(RefusedError) as caught:
        await relay.ask(request(upstream, stream=True, stream_options={"include_usage": True}))
    assert caught.value.status == 400


async def test_connections_are_kept(relay: OpenAiRelay, upstream: LlmUpstream) -> None:
    upstream.script("m", [HELLO])

    for stream in (True, False, True):
        answer = await relay.ask(request(upstream, stream=stream))
        if stream:
            await events_of(answer)

    assert {r.connection for r in upstream.requests} == {1}


async def test_leaving_closes_the_providers_connection(
    relay: OpenAiRelay, upstream: LlmUpstream
) -> None:
    upstream.script("m", [Answer(chunks=("a", "b", "c"), hold_after=1)])

    answer = await relay.ask(request(upstream, stream=True))
    assert answer.pieces is not None
    await anext(answer.pieces)
    await answer.pieces.aclose()

    async with asyncio.timeout(5):
        await upstream.requests[0].disconnected.wait()


async def test_a_whole_answer_to_a_stream_becomes_one(
    relay: OpenAiRelay, upstream: LlmUpstream
) -> None:
    upstream.script("m", [Answer(chunks=("hi",), usage=(1, 1), plain=True)])

    answer = await relay.ask(request(upstream, stream=True, stream_options={"include_usage": True}))
    seen = [orjson.loads(event) for event in (await events_of(answer))[:-1]]

    assert [chunk["object"] for chunk in seen] == ["chat.completion.chunk"] * 2
    assert seen[0]["choices"][0]["delta"]["content"] == "hi"
    assert seen[0]["choices"][0]["finish_reason"] == "stop"
    assert seen[1]["usage"]["total_tokens"] == 2


@pytest.mark.parametrize("usage", [(1, 1), ()])
async def test_an_end_without_done_is_completed(
    relay: OpenAiRelay, upstream: LlmUpstream, usage: tuple[int, ...]
) -> None:
    upstream.script("m", [Answer(chunks=("hi",), usage=usage, done=False)])

    assert (await events_of(await relay.ask(request(upstream, stream=True))))[-1] == b"[DONE]"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Answer(chunks=("a", "b", "c"), cut_after=2), "cut its answer off"),
        (Answer(chunks=("a",), finish_reason="", done=False), "cut its answer off"),
        (Answer(chunks=("a", "b"), hold_after=1), "silent for 0.3 seconds in the middle"),
    ],
)
async def test_a_broken_stream_raises_after_whole_lines(
    relay: OpenAiRelay, upstream: LlmUpstream, script: Answer, said: str
) -> None:
    upstream.script("m", [script])

    answer = await relay.ask(request(upstream, stream=True, seconds=0.3))

    seen: list[bytes] = []
    with pytest.raises(UpstreamError, match=said):
        await read_into(seen, answer)
    assert b'"a"' in b"".join(seen)
    assert seen[-1].endswith(b"\n")


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (Answer(status=400), 400, "scripted failure"),
        (Answer(status=404), 404, "no such model"),
        (Answer(status=422), 422, "scripted"),
        (Answer(status=429, headers=(("retry-after", "7"),)), 429, "too many requests"),
        (Answer(status=500), 500, "HTTP 500"),
        (Answer(status=302, headers=(("location", "http://x/"),)), 302, "redirect"),
    ],
)
async def test_a_refusal_keeps_its_status(
    relay: OpenAiRelay, upstream: LlmUpstream, script: Answer, status: int, said: str
) -> None:
    upstream.script("m", [script])

    with pytest.raises(RefusedError, match=said) as caught:
        await relay.ask(request(upstream))

    assert caught.value.status == status
    assert caught.value.retry_after == ("7" if status == 429 else None)


async def test_a_refusal_keeps_the_providers_words_without_the_key(
    relay: OpenAiRelay, upstream: LlmUpstream
) -> None:
    error = {"message": f"bad {KEY}", "type": "t", "param": "messages", "code": f"c{KEY}"}
    upstream.script("m", [Answer(status=400, body=orjson.dumps({"error": error}).decode())])

    with pytest.raises(RefusedError) as caught:
        await relay.ask(request(upstream))

    assert caught.value.details == {"type": "t", "param": "messages", "code": "c[api key]"}
    assert KEY not in caught.value.message


@pytest.mark.parametrize("body", ["<html>hello</html>", "", "[]", '{"ok": true}', "{"])
@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
async def test_what_is_no_completion_is_an_error(
    relay: OpenAiRelay, upstream: LlmUpstream, body: str, content_type: str
) -> None:
    upstream.script("m", [Answer(body=body, content_type=content_type)])

    with pytest.raises(UpstreamError, match=r"not a chat completion|empty response"):
        await relay.ask(request(upstream))


async def test_nobody_there(relay: OpenAiRelay) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with pytest.raises(UpstreamError, match="connection refused") as caught:
        await relay.ask(request(f"http://127.0.0.1:{port}/v1"))

    assert caught.value.status is None


async def test_text_about_usage_is_content(relay: OpenAiRelay, upstream: LlmUpstream) -> None:
    """Only the chunk that counts is taken away, whatever a model writes."""
    text = '{"choices": [], "usage": {"prompt_tokens": 1}} data: [DONE]'
    upstream.script("m", [Answer(chunks=(text, '"choices":[]'), usage=(1, 1))])

    seen = await events_of(await relay.ask(request(upstream, stream=True)))

    chunks = [orjson.loads(event) for event in seen[:-1]]
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert said == text + '"choices":[]'


async def test_many_words(relay: OpenAiRelay, upstream: LlmUpstream) -> None:
    upstream.script("m", [words(500)])

    seen = await events_of(await relay.ask(request(upstream, stream=True)))

    assert len(seen) == 503
