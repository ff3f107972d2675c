"""Completions of servers that speak OpenAI's wire, relayed byte for byte.

An answer is neither parsed nor built anew: what a provider sends is what the client gets, fields
we know nothing of included. A stream is only cut into whole lines, so that an error can be told
between two of them.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import NoneType
from typing import Final

import httpx
import orjson

from sinas.kit.json_types import JsonObject
from sinas.llm.base import Usage
from sinas.llm.direct import (
    DONE_EVENT,
    DirectAnswer,
    DirectRequest,
    chunks_of_whole,
    encoded,
    event_of,
)
from sinas.llm.failures import broken, cut, failure, refused, shorten
from sinas.llm.openai_chunks import usage_of
from sinas.llm.openai_wire import (
    CONNECT_SECONDS,
    completions_url,
    headers_of,
    is_json,
    read_at_most,
    read_end,
)
from sinas.llm.pool import StreamPool

OPENAI_ENDPOINT: Final = "https://api.openai.com/v1"
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_BROKEN: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
# The chunk that only counts tokens. Inside of a text, quotes are escaped: this is never content.
_NO_CHOICES: Final = re.compile(rb'"choices":\s*\[\s*\]')
_FINISHED: Final = re.compile(rb'"finish_reason":\s*"')
_LAST_BYTES: Final = 8192


class OpenAiRelay:
    """Redirects are not followed.

    Streams are always asked for their tokens; the chunk that tells them goes only to clients that
    asked for it. Servers that refuse the question are asked without it and remembered.
    """

    def __init__(self, pool: StreamPool) -> None:
        self._pool = pool
        self._without_usage: set[str] = set()

    async def ask(self, request: DirectRequest) -> DirectAnswer:
        """Ask, and return when the provider has begun to answer.

        Raises:
            RefusedError: The provider's status is not 200.
            UpstreamError: It could not be reached, or sent something else.
        """
        url = completions_url(request.provider.endpoint or OPENAI_ENDPOINT)
        adds_usage = _may_ask_for_usage(request) and url not in self._without_usage
        response = await self._send(request, url, adds_usage=adds_usage)
        try:
            answer = await _begun(request, response, adds_usage=adds_usage)
        except _UsageRefusedError:
            self._without_usage.add(url)
        except _BROKEN as error:
            await response.aclose()
            raise broken(request, error, started=True) from error
        except BaseException:
            await response.aclose()
            raise
        else:
            return answer
        await response.aclose()
        return await self.ask(request)

    async def _send(self, request: DirectRequest, url: str, *, adds_usage: bool) -> httpx.Response:
        silence = request.timeout_seconds
        client = self._pool.client()
        try:
            return await client.send(
                client.build_request(
                    "POST",
                    url,
                    content=_body(request, adds_usage=adds_usage),
                    headers=headers_of(request.provider),
                    timeout=httpx.Timeout(silence, connect=min(CONNECT_SECONDS, silence)),
                ),
                stream=True,
            )
        except _BROKEN as error:
            raise broken(request, error, started=False) from error


class _UsageRefusedError(Exception):
    """The server does not know the `stream_options` that were added."""


def _may_ask_for_usage(request: DirectRequest) -> bool:
    if not request.is_stream or request.wants_usage:
        return False
    return isinstance(request.body.get("stream_options"), dict | NoneType)


async def _begun(
    request: DirectRequest, response: httpx.Response, *, adds_usage: bool
) -> DirectAnswer:
    """The answer whose headers have come."""
    status = response.status_code
    if status != 200:
        body = await read_at_most(response, _MAX_ERROR_BYTES)
        if adds_usage and status in (400, 422) and b"stream_options" in body:
            raise _UsageRefusedError
        raise refused(request, status, body, retry_after=response.headers.get("retry-after"))
    if is_json(response):
        return _whole(request, await _read_whole(request, response))
    if not request.is_stream:
        raise _rubbish(request, await read_at_most(response, 200))
    answer = DirectAnswer()
    answer.pieces = _pieces(request, response, answer, hides_usage=adds_usage)
    return answer


def _body(request: DirectRequest, *, adds_usage: bool) -> bytes:
    body: JsonObject = {**request.body, "model": request.model}
    if adds_usage:
        given = body.get("stream_options")
        options = given if isinstance(given, dict) else {}
        body["stream_options"] = {**options, "include_usage": True}
    return encoded(body)


async def _read_whole(request: DirectRequest, response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _MAX_WHOLE_BYTES:
            raise failure(request, f"sent more than {_MAX_WHOLE_BYTES // 2**20} MiB")
    await response.aclose()
    return bytes(body)


def _whole(request: DirectRequest, body: bytes) -> DirectAnswer:
    try:
        completion = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _rubbish(request, body) from error
    if not isinstance(completion, dict) or not isinstance(completion.get("choices"), list):
        raise _rubbish(request, body)
    answer = DirectAnswer(whole=body, usage=usage_of(completion.get("usage")))
    if request.is_stream:
        chunks = chunks_of_whole(completion, with_usage=request.wants_usage)
        answer.whole, answer.pieces = None, _ready([*map(event_of, chunks), DONE_EVENT])
    return answer


async def _ready(pieces: list[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


def _rubbish(request: DirectRequest, body: bytes) -> Exception:
    sample = shorten(body[:80].decode("utf-8", "replace"))
    if not sample:
        return failure(request, "sent an empty response")
    return failure(request, f"sent something that is not a chat completion: {sample!r}")


async def _pieces(
    request: DirectRequest, response: httpx.Response, answer: DirectAnswer, *, hides_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The stream in whole lines.

    Raises:
        UpstreamError: The provider fell silent or ended before its answer was whole.
    """
    last = b""
    try:
        async with aclosing(_lines(request, response)) as lines:
            async for piece in lines:
                shown = piece
                if _NO_CHOICES.search(piece):
                    shown, answer.usage = _split_usage(piece, answer.usage, hides=hides_usage)
                if shown:
                    yield shown
                if _is_done(piece):
                    await read_end(response)
                    return
                last = (last + piece)[-_LAST_BYTES:]
    except _BROKEN as error:
        if not _FINISHED.search(last):
            raise broken(request, error, started=bool(last)) from error
    finally:
        await response.aclose()
    if not _FINISHED.search(last):
        raise cut(request)
    yield DONE_EVENT  # some servers end without it, and clients wait for it


async def _lines(request: DirectRequest, response: httpx.Response) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for piece in response.aiter_raw():
        whole = rest + piece if rest else piece
        end = whole.rfind(b"\n") + 1
        if end == len(whole):
            rest = b""
            yield whole
            continue
        rest = whole[end:]
        if len(rest) > _MAX_LINE_BYTES:
            raise failure(request, "sent something that is not an event stream")
        if end:
            yield whole[:end]
    if rest:
        yield rest + b"\n"


def _is_done(piece: bytes) -> bool:
    return piece[-40:].rstrip().endswith((b"data: [DONE]", b"data:[DONE]"))


def _split_usage(piece: bytes, known: Usage | None, *, hides: bool) -> tuple[bytes, Usage | None]:
    """The piece as the client gets it, and the tokens it tells."""
    shown = []
    for line in piece.splitlines(keepends=True):
        if _NO_CHOICES.search(line) and (found := _usage_in(line)) is not None:
            known = found
            if hides:
                continue
        shown.append(line)
    return b"".join(shown), known


def _usage_in(line: bytes) -> Usage | None:
    try:
        chunk = orjson.loads(line.removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        return None
    return usage_of(chunk.get("usage")) if isinstance(chunk, dict) else None
