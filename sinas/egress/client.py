"""The HTTP client for addresses that users name: connectors, callbacks, documents.

It connects only to addresses that an `EgressPolicy` has checked, whatever a name resolves to a
moment later; certificates are verified against the name. A redirect is a new request, checked as
the first. It keeps no cookies, which would be one user's in another's request; it uses no proxy of
the environment, which would resolve names itself; and it logs no URLs, which may carry keys.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpcore
import httpx

from sinas.egress.policy import EgressPolicy
from sinas.egress.redirects import Sending, followed
from sinas.egress.transport import GuardedTransport
from sinas.egress.urls import parse_url
from sinas.errors import UpstreamError

_FAILURES = (
    httpx.HTTPError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    TimeoutError,
    OSError,
)
# Compressed, a small answer can be a large one.
_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Sinas"}


class TimedOutError(UpstreamError):
    """No whole answer came in time; what was asked may have been done."""


class UnreachableError(UpstreamError):
    """There was no connection: the server did not get the request."""


class TooManyRedirectsError(UpstreamError):
    """The server sends the request on and on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said.

    Attributes:
        headers: Names in lower case.
        body: Decoded, cut at the request's `max_bytes`.
        is_whole: Whether nothing of the body was cut off.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool


class GuardedClient:
    """Requests to servers on behalf of users.

    Args:
        policy: Which addresses may be reached.
        tls: What certificates are verified with; httpx's own choice when not given.
    """

    def __init__(self, policy: EgressPolicy, tls: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._tls = tls
        self._transport: GuardedTransport | None = None
        self._opening = asyncio.Lock()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_seconds: float = 30.0,
        max_bytes: int = 10 * 1024 * 1024,
        max_redirects: int = 0,
    ) -> Answer:
        """Send one request; redirects that are not followed and error statuses are answers, too.

        Args:
            method: Of HTTP, in capitals.
            url: `http` or `https`.
            headers: Besides those every request has, or instead of them.
            content: The body.
            timeout_seconds: For everything together, from the resolver to the last byte.
            max_bytes: How much of the answer's body is kept.
            max_redirects: How many are followed. Other origins get no credentials and no body.

        Raises:
            EgressError: The URL, or a redirect, leads to an address that may not be reached.
            UpstreamError: The server cannot be reached, takes too long, sends the request on
                without end, or speaks no HTTP.
        """
        sending = Sending(
            method=method, url=parse_url(url), headers=dict(headers or {}), content=content
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                for _ in range(max_redirects + 1):
                    answer, onward = await self._exchange(sending, max_bytes, max_redirects > 0)
                    if onward is None:
                        return answer
                    sending = onward
        except _FAILURES as error:
            raise _failure(sending.url.host, error, timeout_seconds) from error
        raise TooManyRedirectsError(
            f"'{sending.url.host}' redirects more than {max_redirects} times."
        )

    async def aclose(self) -> None:
        """Close what is open."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _exchange(
        self, sending: Sending, max_bytes: int, may_follow: bool
    ) -> tuple[Answer, Sending | None]:
        """One request and its answer, and the request that a redirect asks for."""
        transport = await self._opened()
        got = await transport.handle_async_request(_request(sending))
        try:
            onward = None
            if may_follow:
                onward = followed(sending, got.status_code, got.headers.get("location"))
            body, is_whole = (b"", True) if onward else await _read(got, max_bytes)
        finally:
            await got.aclose()
        answer = Answer(
            status=got.status_code, headers=dict(got.headers), body=body, is_whole=is_whole
        )
        return answer, onward

    async def _opened(self) -> GuardedTransport:
        """The transport, made on first use: most processes never send anything."""
        async with self._opening:
            if self._transport is None:
                if self._tls is None:
                    # A thread: reading the certificates takes as long as many requests.
                    self._tls = await asyncio.to_thread(httpx.create_ssl_context)
                self._transport = GuardedTransport(self._policy, self._tls)
            return self._transport


def _request(sending: Sending) -> httpx.Request:
    given = {name.lower() for name in sending.headers}
    headers = [
        *((name, text) for name, text in _ALWAYS.items() if name.lower() not in given),
        *sending.headers.items(),
    ]
    return httpx.Request(
        sending.method,
        sending.url,
        # Bytes: httpx would refuse what is not ASCII, which servers may well take.
        headers=[(name.encode(), text.encode()) for name, text in headers],
        content=sending.content,
    )


async def _read(answer: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return bytes(body[:max_bytes]), False
    return bytes(body), True


def _failure(host: str, error: Exception, seconds: float) -> UpstreamError:
    if isinstance(error, httpcore.ConnectTimeout):
        return UnreachableError(f"'{host}' cannot be reached.")
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return TimedOutError(f"'{host}' did not answer within {seconds:g} seconds.")
    if isinstance(error, httpcore.ProtocolError | httpx.DecodingError):
        return UpstreamError(f"'{host}' did not answer in HTTP.")
    if _is_about_tls(error):
        return UnreachableError(f"'{host}' has no certificate that can be verified.")
    if isinstance(error, httpcore.ConnectError):
        return UnreachableError(f"'{host}' cannot be reached.")
    return UpstreamError(f"'{host}' cannot be reached.")


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
