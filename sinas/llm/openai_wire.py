"""The lean client: OpenAI's chat-completions wire over httpx, for any compatible endpoint.

Beside litellm because of its cost: an answer of 50 chunks takes about 60 ms of CPU there and
about 1 ms here, and importing litellm takes seconds and 190 MB.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import httpx
import orjson
from typing_extensions import override

from sinas.errors import UpstreamError
from sinas.kit.json_types import JsonObject
from sinas.llm.base import Delta, LanguageModel, ModelRequest, Provider
from sinas.llm.failures import broken, cut, describe_status, failure, message_in, refused, shorten
from sinas.llm.openai_chunks import Foreign, delta_of, delta_of_whole
from sinas.llm.pool import StreamPool
from sinas.llm.sse import SseDecoder, SseOverflowError

CONNECT_SECONDS: Final = 10.0
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_WHOLE_BYTES: Final = 16 * 1024 * 1024
# How long to wait for the HTTP end mark after [DONE]; without it the connection is not kept.
_END_SECONDS: Final = 0.25
_PATH: Final = "/chat/completions"
_DONE: Final = b"[DONE]"


class OpenAiWire(LanguageModel):
    """Needs a provider with an endpoint. Redirects are not followed.

    Servers that refuse `stream_options` are asked again without and remembered, by endpoint.
    """

    def __init__(self, pool: StreamPool | None = None) -> None:
        self._pool = pool or StreamPool()
        self._without_usage: set[str] = set()

    @override
    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        url = completions_url(request.provider.endpoint or "")
        with_usage = self._asks_for_usage(request, url)
        try:
            async with aclosing(self._attempt(request, url, with_usage)) as deltas:
                async for delta in deltas:
                    yield delta
        except _StreamOptionsRefusedError:
            self._without_usage.add(url)
            async with aclosing(self._attempt(request, url, with_usage=False)) as deltas:
                async for delta in deltas:
                    yield delta

    @override
    async def aclose(self) -> None:
        await self._pool.aclose()

    def _asks_for_usage(self, request: ModelRequest, url: str) -> bool:
        # Mistral refuses the question and counts unasked.
        return url not in self._without_usage and request.provider.type != "mistral"

    async def _attempt(
        self, request: ModelRequest, url: str, with_usage: bool
    ) -> AsyncGenerator[Delta, None]:
        reader = _AnswerReader(request)
        silence = request.timeout_seconds
        try:
            async with self._pool.client().stream(
                "POST",
                url,
                content=body_of(request, with_usage=with_usage),
                headers=headers_of(request.provider),
                timeout=httpx.Timeout(silence, connect=min(CONNECT_SECONDS, silence)),
            ) as response:
                if response.status_code != 200:
                    raise await _refusal(request, response, with_usage=with_usage)
                if is_json(response):
                    yield reader.whole(await read_at_most(response, _MAX_WHOLE_BYTES))
                    return
                async for piece in response.aiter_bytes():
                    for delta in reader.feed(piece):
                        yield delta
                    if reader.is_done:
                        await read_end(response)
                        return
                for delta in reader.end():
                    yield delta
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            if not reader.is_finished:
                raise broken(request, error, started=reader.has_started) from error


class _StreamOptionsRefusedError(Exception):
    """The server does not know `stream_options`."""


class _AnswerReader:
    """Bytes of one streamed answer to deltas, and what was seen so far.

    Attributes:
        is_done: [DONE] was seen.
        is_finished: The answer is whole: [DONE] or a finish_reason was seen.
    """

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._decoder = SseDecoder()
        self._head = b""
        self.has_started = False
        self.is_done = False
        self.is_finished = False

    def feed(self, piece: bytes) -> Iterator[Delta]:
        """Deltas completed by these bytes; nothing after [DONE] counts.

        One by one, so that what came before a fault is not lost with it.
        """
        if len(self._head) < 200:
            self._head += piece[:200]
        try:
            payloads = self._decoder.feed(piece)
        except SseOverflowError as error:
            raise self._rubbish(self._head) from error
        yield from self._deltas(payloads)

    def end(self) -> Iterator[Delta]:
        """What the end of the stream completes.

        Raises:
            UpstreamError: The answer is not whole.
        """
        yield from self._deltas(self._decoder.end())
        if not self.is_finished:
            raise cut(self._request) if self.has_started else self._rubbish(self._head)

    def whole(self, body: bytes) -> Delta:
        """The delta of an answer that was not streamed although it was asked to be."""
        completion = self._parse(body)
        delta = delta_of_whole(completion)
        if delta is None:
            raise self._rubbish(body)
        self.is_finished = True
        return delta

    def _deltas(self, payloads: list[bytes]) -> Iterator[Delta]:
        for payload in payloads:
            if payload.startswith(_DONE):
                self.is_done = self.is_finished = self.has_started = True
                break
            delta = self._delta(self._parse(payload), payload)
            if delta is not None:
                self.is_finished = self.is_finished or delta.finish_reason is not None
                yield delta

    def _delta(self, chunk: Foreign, payload: bytes) -> Delta | None:
        try:
            delta = delta_of(chunk)
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            raise self._rubbish(payload) from error
        self.has_started = True
        return delta

    def _parse(self, payload: bytes) -> Foreign:
        try:
            data = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise self._rubbish(payload) from error
        if not isinstance(data, dict):
            raise self._rubbish(payload)
        if error_object := data.get("error"):
            raise self._reported(error_object)
        return data

    def _reported(self, error_object: object) -> UpstreamError:
        code = error_object.get("code") if isinstance(error_object, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else None
        words = shorten(message_in(error_object)) or "no reason given"
        where = "in the middle of its answer" if self.has_started else "in place of an answer"
        return failure(self._request, f"reported an error {where}: {words}", status=status)

    def _rubbish(self, payload: bytes) -> UpstreamError:
        sample = shorten(payload[:80].decode("utf-8", "replace"))
        what = (
            f"sent something that is not a chat completion: {sample!r}"
            if sample
            else ("sent an empty response")
        )
        return failure(self._request, what)


def completions_url(endpoint: str) -> str:
    """Where to post: the endpoint is a base URL; one that already has the path is left alone."""
    base = endpoint.strip().rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def body_of(request: ModelRequest, *, with_usage: bool) -> bytes:
    """The request's JSON. Fields of the request win over `extra`; None is left out."""
    body: JsonObject = {"tool_choice": "auto"} if request.tools else {}
    body |= request.extra
    body["model"] = request.model
    body["messages"] = list(request.messages)
    body["stream"] = True
    body.pop("stream_options", None)
    if with_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = list(request.tools)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return orjson.dumps(body)


def headers_of(provider: Provider) -> dict[str, str]:
    """Headers of a request, its credentials among them."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream, application/json",
        # Compressed streams arrive in lumps: the packer waits for more.
        "accept-encoding": "identity",
        "user-agent": "sinas",
    }
    if provider.api_key:
        headers["authorization"] = f"Bearer {provider.api_key}"
    return headers


async def _refusal(
    request: ModelRequest, response: httpx.Response, *, with_usage: bool
) -> Exception:
    status = response.status_code
    body = await read_at_most(response, _MAX_ERROR_BYTES)
    if with_usage and status in (400, 422) and b"stream_options" in body:
        return _StreamOptionsRefusedError(describe_status(status, body))
    return refused(request, status, body, retry_after=response.headers.get("retry-after"))


def is_json(response: httpx.Response) -> bool:
    """Whether the answer is one JSON text."""
    return str(response.headers.get("content-type", "")).startswith("application/json")


async def read_at_most(response: httpx.Response, limit: int) -> bytes:
    """The body, without what is beyond `limit` bytes."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= limit:
            break
    return body[:limit]


async def read_end(response: httpx.Response) -> None:
    """Read the end mark of the body, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            async for _ in response.stream:  # type: ignore[union-attr]
                pass
    except (TimeoutError, httpx.HTTPError):
        return  # the answer is whole; only the connection is lost
