"""The span of one model call: what was asked, what came, how long it took.

The span is never the current one: a generator's context is that of whoever reads it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Final
from urllib.parse import urlsplit

import orjson

from sinas.errors import UpstreamError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.llm.assemble import TurnText
from sinas.llm.base import Delta, ModelRequest, Provider, Usage
from sinas.llm.direct import DirectAnswer, DirectRequest
from sinas.llm.openai_chunks import Foreign, delta_of, delta_of_whole
from sinas.tracing import names
from sinas.tracing.content import messages_text
from sinas.tracing.spans import Kind, Span, Tracer

_SPAN_NAME: Final = "llm.call"
# The conventions' words; other types are their own.
_PROVIDERS: Final = {"mistral": "mistral_ai"}
_DATA: Final = b"data: {"


async def traced(
    tracer: Tracer, request: ModelRequest, stream: AsyncGenerator[Delta, None]
) -> AsyncGenerator[Delta, None]:
    """`stream` in a span below the one it is first read in; it ends with the stream."""
    span = tracer.span(Kind.MODEL, _SPAN_NAME)
    answer = TurnText()
    started = time.monotonic()
    first: float | None = None
    if span.is_recording:
        asked = {
            names.REQUEST_TEMPERATURE: request.temperature,
            names.REQUEST_MAX_TOKENS: request.max_tokens,
            names.OUTPUT_TYPE: "json" if request.response_format else None,
        }
        _describe(span, request.provider, request.model)
        span.set(asked)
        if span.keeps_content:
            span.content(given=messages_text(request.messages))
    try:
        with _told(span):
            async with aclosing(stream):
                async for delta in stream:
                    if first is None:
                        first = time.monotonic() - started
                    answer.add(delta)
                    yield delta
    finally:
        if span.is_recording:
            span.set({names.FIRST_CHUNK_SECONDS: first})
            _conclude(span, answer, answer.usage)
        span.end()


async def traced_direct(
    tracer: Tracer, request: DirectRequest, asking: Awaitable[DirectAnswer]
) -> DirectAnswer:
    """What `asking` brings, in a span below the current one; of a stream it ends with that."""
    span = tracer.span(Kind.MODEL, _SPAN_NAME)
    if span.is_recording:
        _describe(span, request.provider, request.model)
        if span.keeps_content:
            span.content(given=messages_text(_messages(request.body.get("messages"))))
    try:
        with _told(span):
            answer = await asking
    except BaseException:
        span.end()
        raise
    if answer.pieces is not None:
        answer.pieces = _relayed(span, answer, answer.pieces)
        return answer
    said = TurnText()
    if span.is_recording:
        _add(said, delta_of_whole, answer.whole or b"")
        _conclude(span, said, answer.usage)
    span.end()
    return answer


async def _relayed(
    span: Span, answer: DirectAnswer, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    said = TurnText()
    try:
        with _told(span):
            async with aclosing(pieces):
                async for piece in pieces:
                    if span.keeps_content:
                        for line in piece.splitlines():
                            if line.startswith(_DATA):
                                _add(said, delta_of, line[len(_DATA) - 1 :])
                    yield piece
    finally:
        _conclude(span, said, answer.usage)
        span.end()


@contextmanager
def _told(span: Span) -> Iterator[None]:
    """Say of an error what it was."""
    try:
        yield
    except UpstreamError as error:
        span.fail(str(error.status or error.code), error.message)
        raise
    except (GeneratorExit, asyncio.CancelledError):
        span.set({names.CANCELLED: True})
        raise
    except Exception as error:
        span.fail(type(error).__qualname__)
        raise


def _describe(span: Span, provider: Provider, model: str) -> None:
    host, port = _server(provider.endpoint)
    span.set(
        {
            names.OPERATION: names.CHAT,
            names.PROVIDER: _PROVIDERS.get(provider.type, provider.type),
            names.PROVIDER_NAME: provider.name,
            names.REQUEST_MODEL: model,
            names.SERVER_ADDRESS: host,
            names.SERVER_PORT: port,
        }
    )


def _server(endpoint: str | None) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(endpoint or "")
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # the request itself will say so
        return None, None


def _messages(given: JsonValue) -> list[JsonObject]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _add(said: TurnText, read: Callable[[Foreign], Delta | None], text: bytes) -> None:
    """Take what a provider sent in; what cannot be read is for its reader to judge."""
    try:
        delta = read(orjson.loads(text))
    except (ValueError, TypeError, AttributeError, LookupError):
        return
    if delta is not None:
        said.add(delta)


def _conclude(span: Span, answer: TurnText, usage: Usage | None) -> None:
    if usage is not None:
        span.set(
            {
                names.INPUT_TOKENS: usage.prompt_tokens,
                names.OUTPUT_TOKENS: usage.completion_tokens,
                names.CACHE_READ_TOKENS: usage.cache_read_tokens or None,
                names.CACHE_WRITE_TOKENS: usage.cache_write_tokens or None,
            }
        )
    if answer.finish_reason:
        span.set({names.FINISH_REASONS: [answer.finish_reason]})
    if span.keeps_content:
        message: JsonObject = {
            "role": "assistant",
            "content": answer.content,
            "tool_calls": [
                {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                for call in answer.tool_calls()
            ],
            "finish_reason": answer.finish_reason,
        }
        span.content(answered=messages_text([message]))
