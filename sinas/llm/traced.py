"""The span of one model call: what was asked, what came, how long it took."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

from sinas.errors import UpstreamError
from sinas.kit.json_types import JsonObject
from sinas.llm.assemble import TurnText
from sinas.llm.base import Delta, ModelRequest
from sinas.tracing import names
from sinas.tracing.content import messages_text
from sinas.tracing.spans import Kind, Span, Tracer

_SPAN_NAME: Final = "llm.call"
# The conventions' words; other types are their own.
_PROVIDERS: Final = {"mistral": "mistral_ai"}


async def traced(
    tracer: Tracer, request: ModelRequest, stream: AsyncGenerator[Delta, None]
) -> AsyncGenerator[Delta, None]:
    """`stream` in a span below the one it is first read in; it ends with the stream.

    The span is never the current one: a generator's context is that of whoever reads it.
    """
    span = tracer.span(Kind.MODEL, _SPAN_NAME)
    answer = TurnText()
    started = time.monotonic()
    first: float | None = None
    if span.is_recording:
        _describe(span, request)
    try:
        async with aclosing(stream):
            async for delta in stream:
                if first is None:
                    first = time.monotonic() - started
                answer.add(delta)
                yield delta
    except UpstreamError as error:
        span.fail(str(error.status or error.code), error.message)
        raise
    except (GeneratorExit, asyncio.CancelledError):
        span.set({names.CANCELLED: True})
        raise
    except Exception as error:
        span.fail(type(error).__qualname__)
        raise
    finally:
        if span.is_recording:
            span.set({names.FIRST_CHUNK_SECONDS: first})
            _conclude(span, answer)
        span.end()


def _describe(span: Span, request: ModelRequest) -> None:
    provider = request.provider
    host, port = _server(provider.endpoint)
    span.set(
        {
            names.OPERATION: names.CHAT,
            names.PROVIDER: _PROVIDERS.get(provider.type, provider.type),
            names.PROVIDER_NAME: provider.name,
            names.REQUEST_MODEL: request.model,
            names.REQUEST_TEMPERATURE: request.temperature,
            names.REQUEST_MAX_TOKENS: request.max_tokens,
            names.OUTPUT_TYPE: "json" if request.response_format else None,
            names.SERVER_ADDRESS: host,
            names.SERVER_PORT: port,
        }
    )
    if span.keeps_content:
        span.content(given=messages_text(request.messages))


def _server(endpoint: str | None) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(endpoint or "")
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # the request itself will say so
        return None, None


def _conclude(span: Span, answer: TurnText) -> None:
    usage = answer.usage
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
