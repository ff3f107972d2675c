"""Model calls as spans, with a real upstream."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sinas.errors import UpstreamError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.llm.base import ModelRequest, Provider
from sinas.llm.client import LlmClient
from sinas.llm.direct import DirectAnswer, DirectRequest
from sinas.settings import TelemetrySettings
from sinas.tracing.opening import open_tracer
from sinas.tracing.spans import About, Kind
from tests.support.llm_script import Answer, Call
from tests.support.llm_upstream import LlmUpstream
from tests.support.otlp_receiver import OtlpReceiver, Received

SECRET = "sk-very-secret-key"


@pytest.fixture
async def upstream() -> AsyncIterator[LlmUpstream]:
    async with LlmUpstream() as server:
        yield server


def request(upstream: LlmUpstream, **fields: Any) -> ModelRequest:
    provider = Provider(name="house", type="openai", endpoint=upstream.openai_url, api_key=SECRET)
    asked = ModelRequest(
        provider=provider,
        model="scripted",
        messages=[{"role": "user", "content": "what is private?"}],
        temperature=0.5,
        max_tokens=100,
    )
    return replace(asked, **fields)


class Recorded:
    """What the endpoint had received in the end."""

    def __init__(self, receiver: OtlpReceiver) -> None:
        self.receiver = receiver

    @property
    def call(self) -> Received:
        return self.receiver.one("llm.call")


@asynccontextmanager
async def client(*, capture: bool = False) -> AsyncIterator[tuple[LlmClient, Recorded]]:
    with OtlpReceiver() as receiver:
        settings = TelemetrySettings(
            enabled=True, exporter_endpoint=receiver.url, capture_content=capture
        )
        tracer = open_tracer(settings)
        llm = LlmClient(tracer)
        about = About(thread="t1", user="u1", agent="a/b")
        with tracer.span(Kind.TURN, "conversation.turn", about=about):
            yield llm, Recorded(receiver)
        await llm.aclose()
        await tracer.aclose()


async def test_what_was_asked_and_what_came(upstream: LlmUpstream) -> None:
    upstream.script("scripted", [Answer(chunks=("all ", "done"), usage=(12, 3), first_delay=0.05)])
    async with client() as (llm, recorded):
        text = "".join([delta.content or "" async for delta in llm.stream(request(upstream))])
    assert text == "all done"
    call = recorded.call
    assert call.parent_id == recorded.receiver.one("conversation.turn").id
    assert call.kind == "client"
    assert not call.is_error
    assert 0.05 <= call.attributes.pop("gen_ai.response.time_to_first_chunk") < 5
    assert call.attributes.pop("server.port") > 0
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.conversation.id": "t1",
        "gen_ai.agent.name": "a/b",
        "user.id": "u1",
        "session.id": "t1",
        "sinas.labels": ["agent:a/b"],
        "sinas.provider": "house",
        "server.address": "127.0.0.1",
    }
    for private in (SECRET.encode(), b"private", b"all done"):
        assert private not in recorded.receiver.raw


async def test_content_where_it_is_asked_for(upstream: LlmUpstream) -> None:
    upstream.script(
        "scripted", [Answer(chunks=("hm",), calls=(Call("look", '{"x": 1}', id="call_1"),))]
    )
    async with client(capture=True) as (llm, recorded):
        async for _ in llm.stream(request(upstream)):
            pass
    attributes = recorded.call.attributes
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "what is private?"}]}
    ]
    call = {"type": "tool_call", "id": "call_1", "name": "look", "arguments": '{"x": 1}'}
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "hm"}, call],
            "finish_reason": "tool_calls",
        }
    ]
    assert SECRET.encode() not in recorded.receiver.raw


async def test_a_provider_that_refuses(upstream: LlmUpstream) -> None:
    upstream.script("scripted", [Answer(status=429)])
    async with client() as (llm, recorded):
        with pytest.raises(UpstreamError):
            async for _ in llm.stream(request(upstream)):
                pass
    assert recorded.call.is_error
    assert recorded.call.attributes["error.type"] == "429"
    assert recorded.call.status_message == ""


async def test_a_cut_answer_says_what_had_come(upstream: LlmUpstream) -> None:
    upstream.script("scripted", [Answer(chunks=("a", "b", "c"), cut_after=2)])
    async with client(capture=True) as (llm, recorded):
        with pytest.raises(UpstreamError):
            async for _ in llm.stream(request(upstream)):
                pass
    call = recorded.call
    assert call.attributes["error.type"] == "upstream_error"
    assert json.loads(call.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "ab"
    assert "cut its answer off" in call.status_message


async def test_a_reader_that_stops_ends_the_span_and_the_request(upstream: LlmUpstream) -> None:
    upstream.script("scripted", [Answer(chunks=("a", "b", "c"), hold_after=1)])
    async with client() as (llm, recorded):
        async with aclosing(llm.stream(request(upstream))) as stream:
            await anext(stream)
        await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)
    assert not recorded.call.is_error
    assert recorded.call.attributes["sinas.cancelled"] is True


def direct(upstream: LlmUpstream, *, stream: bool) -> DirectRequest:
    provider = Provider(name="house", type="openai", endpoint=upstream.openai_url, api_key=SECRET)
    messages: list[JsonValue] = [{"role": "user", "content": "what is private?"}]
    body: JsonObject = {"messages": messages, "stream": stream}
    return DirectRequest(provider=provider, model="scripted", body=body)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("capture", [True, False])
async def test_completions_that_are_passed_on(
    upstream: LlmUpstream, stream: bool, capture: bool
) -> None:
    upstream.script("scripted", [Answer(chunks=("all ", "done"), usage=(12, 3))])
    plain = LlmClient()
    async with client(capture=capture) as (llm, recorded):
        got = [
            await all_of(await one.complete(direct(upstream, stream=stream)))
            for one in (llm, plain)
        ]
    await plain.aclose()
    assert anonymous(got[0]) == anonymous(got[1])
    call = recorded.call
    assert call.parent_id == recorded.receiver.one("conversation.turn").id
    assert call.attributes["gen_ai.request.model"] == "scripted"
    assert call.attributes["gen_ai.usage.output_tokens"] == 3
    if capture:
        said = json.loads(call.attributes["gen_ai.output.messages"])
        assert said[0]["parts"] == [{"type": "text", "content": "all done"}]
        assert said[0]["finish_reason"] == "stop"
    else:
        assert b"all done" not in recorded.receiver.raw
        assert b"private" not in recorded.receiver.raw


async def test_completions_that_fail(upstream: LlmUpstream) -> None:
    upstream.script("scripted", [Answer(status=429)])
    async with client() as (llm, recorded):
        with pytest.raises(UpstreamError):
            await llm.complete(direct(upstream, stream=True))
    assert recorded.call.attributes["error.type"] == "429"
    upstream.script("scripted", [Answer(chunks=("a", "b", "c"), cut_after=2)])
    async with client() as (llm, recorded):
        answer = await llm.complete(direct(upstream, stream=True))
        with pytest.raises(UpstreamError):
            await all_of(answer)
    assert recorded.call.attributes["error.type"] == "upstream_error"


async def all_of(answer: DirectAnswer) -> bytes:
    if answer.pieces is None:
        return answer.whole or b""
    return b"".join([piece async for piece in answer.pieces])


def anonymous(text: bytes) -> str:
    """Without what differs from answer to answer."""
    return re.sub(r'"(id|created)":("[^"]*"|\d+)', "", text.decode())
