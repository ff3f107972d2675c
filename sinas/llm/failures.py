"""Every way a model call fails, as one sentence in an `UpstreamError`."""

import asyncio
import socket
import ssl
from typing import Protocol

import httpx
import orjson

from sinas.errors import UpstreamError
from sinas.llm.base import Provider

_MESSAGE_CHARS = 500
_HIDDEN = "[api key]"
# Shorter "keys" are placeholders such as "x"; hiding those would only garble messages.
_SHORTEST_KEY = 6


class Asked(Protocol):
    """What an error tells of the request it is about."""

    @property
    def provider(self) -> Provider:
        """Where the model is served."""
        ...

    @property
    def model(self) -> str:
        """The provider's own name of the model."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """Longest silence."""
        ...


class RefusedError(UpstreamError):
    """The provider answered with an HTTP status that is not 200.

    Attributes:
        retry_after: The provider's Retry-After header as it came; None without one.
        details: `type`, `param` and `code` of an OpenAI error object, where they are texts.
    """

    status: int

    def __init__(
        self, message: str, *, status: int, retry_after: str | None, details: dict[str, str]
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after
        self.details = details


class LostError(UpstreamError):
    """The provider could not be reached, or the connection ended before the answer did."""


def failure(request: Asked, what: str, *, status: int | None = None) -> UpstreamError:
    """The error for `what`, a predicate that follows the name of provider and model.

    The provider's API key is blotted out of `what`, wherever it came from.
    """
    return UpstreamError(_sentence(request, what), status=status)


def _sentence(request: Asked, what: str) -> str:
    who = f"LLM provider '{request.provider.name}' (model '{request.model}')"
    return f"{who} {_without_key(request, what).rstrip('.')}."


def _without_key(request: Asked, text: str) -> str:
    key = request.provider.api_key
    return text.replace(key, _HIDDEN) if key and len(key) >= _SHORTEST_KEY else text


def shorten(text: str) -> str:
    """At most 500 characters of a foreign text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 1] + "…"


def refused(
    request: Asked, status: int, body: bytes | str, *, retry_after: str | None = None
) -> RefusedError:
    """The provider answered with an HTTP status that is not 200."""
    return RefusedError(
        _sentence(request, describe_status(status, body, retry_after)),
        status=status,
        retry_after=retry_after,
        details={name: _without_key(request, text) for name, text in _details_of(body).items()},
    )


def _details_of(body: bytes | str) -> dict[str, str]:
    """What an OpenAI error object says besides its message."""
    try:
        data = orjson.loads(body)
    except ValueError:
        return {}
    found = data.get("error") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        return {}
    return {
        name: shorten(text)
        for name in ("type", "param", "code")
        if isinstance(text := found.get(name), str) and text
    }


def describe_status(status: int, body: bytes | str, retry_after: str | None = None) -> str:
    """The predicate for an HTTP status, with the provider's own words if it gave any."""
    if 300 <= status < 400:
        return f"answered HTTP {status}, a redirect, which is not followed; check its endpoint"
    meaning = {
        401: "the API key was not accepted",
        403: "access was denied",
        404: "no such model or path",
        429: "too many requests",
    }.get(status)
    words = shorten(message_of(body))
    text = f"answered HTTP {status}" + (f" ({meaning})" if meaning else "")
    if words:
        text += f": {words}"
    if retry_after:
        text = f"{text.rstrip('.')}; it asks to wait {shorten(retry_after)[:40]} (Retry-After)"
    return text


def message_of(body: bytes | str) -> str:
    """The human part of an error body, in any of the shapes servers use; else the body."""
    try:
        data = orjson.loads(body)
    except ValueError:
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return "" if text.lstrip().startswith("<") else text  # an HTML page helps nobody
    return message_in(data)


def message_in(data: object) -> str:
    """As `message_of`, for decoded JSON."""
    if isinstance(data, str):
        return data
    if isinstance(data, dict):
        for key in ("error", "message", "detail", "error_msg"):
            if value := data.get(key):
                return message_in(value)
    return orjson.dumps(data).decode() if data else ""


def broken(request: Asked, error: Exception, *, started: bool) -> UpstreamError:
    """The connection failed or the provider fell silent; `started`: in the midst of an answer."""
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return _lost(request, f"could not be reached at {host_of(request)}: timed out")
        case httpx.TimeoutException() | TimeoutError():
            when = "in the middle of its answer" if started else "before its answer"
            what = f"was silent for {request.timeout_seconds:g} seconds {when}"
        case httpx.ConnectError():
            where = host_of(request)
            return _lost(request, f"could not be reached at {where}: {cause_of(error)}")
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            what = "has an endpoint that is not an http or https URL"
        case httpx.LocalProtocolError():
            what = "cannot be asked: its API key holds characters HTTP forbids"
        case _ if started:
            return cut(request)
        case _:
            return _lost(request, f"closed the connection without an answer ({cause_of(error)})")
    return failure(request, what)


def cut(request: Asked) -> LostError:
    """The stream ended before the answer did."""
    return _lost(request, "cut its answer off before the end: the connection closed")


def _lost(request: Asked, what: str) -> LostError:
    return LostError(_sentence(request, what))


def host_of(request: Asked) -> str:
    """Host and port of the endpoint: no path, no user info."""
    if request.provider.endpoint is None:
        return "its default endpoint"
    try:
        url = httpx.URL(request.provider.endpoint)
    except httpx.InvalidURL:
        return "its endpoint"
    return f"{url.host}:{url.port}" if url.port else url.host


def cause_of(error: BaseException) -> str:
    """The first cause in the chain that says something readable."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, socket.gaierror):
            return "the host name is not known"
        if isinstance(current, ConnectionRefusedError):
            return "connection refused"
        if isinstance(current, ssl.SSLError):
            return f"TLS failed ({current.reason or 'handshake'})"
        if isinstance(current, ConnectionError):
            return "the connection was closed at once"
        if isinstance(current, asyncio.TimeoutError):
            return "timed out"
        current = current.__cause__ or current.__context__
    return shorten(str(error)) or type(error).__name__
