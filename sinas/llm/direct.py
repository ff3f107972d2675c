"""Chat completions in OpenAI's format, passed on as a client sent them: request and answer."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import orjson

from sinas.kit.json_types import JsonObject
from sinas.llm.base import Provider, Usage
from sinas.llm.failures import RefusedError
from sinas.llm.openai_chunks import Foreign

DONE_EVENT: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectRequest:
    """A completion to ask a provider for.

    Attributes:
        model: The provider's own name of the model; replaces the body's.
        body: OpenAI's chat-completions request. Its `stream` decides what is answered.
        timeout_seconds: Longest silence, also before the first byte: without a stream that is
            the time the whole answer takes.
    """

    provider: Provider
    model: str
    body: JsonObject
    timeout_seconds: float = 120.0

    @property
    def is_stream(self) -> bool:
        """Whether the client wants an event stream."""
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether the client wants the tokens as the stream's last chunk."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


@dataclass(slots=True)
class DirectAnswer:
    """What came back.

    Attributes:
        whole: JSON of a completion; None for a stream.
        pieces: Of a stream: server-sent events in whole lines, up to `[DONE]`. Closing it, or
            cancelling its reader, closes the connection to the provider. Raises `UpstreamError`
            when the provider fails in the middle.
        usage: Tokens, where the provider counts; of a stream only at its end.
    """

    whole: bytes | None = None
    pieces: AsyncGenerator[bytes, None] | None = None
    usage: Usage | None = None


def encoded(body: JsonObject) -> bytes:
    """The JSON of a request's body.

    Raises:
        RefusedError: 400: it is nested deeper than JSON writers go.
    """
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        message = "The request is nested too deeply, or holds text that is not valid Unicode."
        raise RefusedError(message, status=400, retry_after=None, details={}) from error


def event_of(chunk: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def chunks_of_whole(completion: Foreign, *, with_usage: bool) -> list[Foreign]:
    """A whole completion as the chunks of a stream."""
    head = {
        "id": completion.get("id"),
        "object": "chat.completion.chunk",
        "created": completion.get("created"),
        "model": completion.get("model"),
    }
    choices = []
    for choice in completion.get("choices") or ():
        delta = dict(choice.get("message") or {})
        calls = delta.get("tool_calls")
        if calls:
            delta["tool_calls"] = [{**call, "index": n} for n, call in enumerate(calls)]
        rest = {name: value for name, value in choice.items() if name != "message"}
        choices.append({**rest, "delta": delta})
    chunks: list[Foreign] = [{**head, "choices": choices}]
    if with_usage and completion.get("usage"):
        chunks.append({**head, "choices": [], "usage": completion["usage"]})
    return chunks
