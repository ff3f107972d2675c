"""The HTTP client for addresses that users name: callbacks, and whatever else leaves for them.

It connects only to addresses that an `EgressPolicy` has checked, whatever a name resolves to a
moment later; certificates are verified against the name. It follows no redirects, since those
would name a second address, and uses no proxy of the environment, which would resolve names itself.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx
from typing_extensions import override

from sinas.egress.policy import EgressPolicy
from sinas.errors import UpstreamError

_MAX_CONNECTIONS = 100
_MAX_IDLE = 20
_IDLE_SECONDS = 15.0
_FAILURES = (
    httpx.HTTPError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    TimeoutError,
    OSError,
)


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
        self._client: httpx.AsyncClient | None = None
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
    ) -> Answer:
        """Send one request; redirects and error statuses are answers, too.

        Args:
            method: Of HTTP.
            url: `http` or `https`.
            headers: Besides those every request has.
            content: The body.
            timeout_seconds: For everything together, from the resolver to the last byte.
            max_bytes: How much of the answer's body is kept.

        Raises:
            EgressError: The URL leads to an address that may not be reached.
            UpstreamError: The server cannot be reached, takes too long, or speaks no HTTP.
        """
        target = _target(url)
        try:
            async with asyncio.timeout(timeout_seconds):
                client = await self._opened()
                async with client.stream(method, target, headers=headers, content=content) as got:
                    body, is_whole = await _read(got, max_bytes)
        except _FAILURES as error:
            raise UpstreamError(_sentence(target.host, error, timeout_seconds)) from error
        return Answer(
            status=got.status_code, headers=dict(got.headers), body=body, is_whole=is_whole
        )

    async def aclose(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        """The client, made on first use: most processes never send anything."""
        async with self._opening:
            if self._client is None:
                if self._tls is None:
                    # A thread: reading the certificates takes as long as many requests.
                    self._tls = await asyncio.to_thread(httpx.create_ssl_context)
                self._client = httpx.AsyncClient(
                    transport=_Transport(_Backend(self._policy), self._tls),
                    timeout=None,  # noqa: S113 - `request` has one for everything together
                    follow_redirects=False,
                    trust_env=False,
                    # Compressed, a small answer can be a large one.
                    headers={"User-Agent": "Sinas", "Accept-Encoding": "identity"},
                )
            return self._client


class _Transport(httpx.AsyncBaseTransport):
    """httpcore's pool, which httpx's own transport opens without a choice of backend."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=backend,
        )

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Stream(answer),
            extensions=answer.extensions,
        )

    @override
    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._answer.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only; TLS, above it, still knows the name."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError(host)
        for address in await self._policy.resolve(host, port):
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    @override
    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def _read(answer: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return bytes(body[:max_bytes]), False
    return bytes(body), True


def _target(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        target = httpx.URL()
    if target.scheme not in ("http", "https") or not target.host or not usable_port(target):
        raise UpstreamError(
            "The URL cannot be used; it must start with http:// or https:// and name a host."
        )
    return target


def usable_port(url: httpx.URL) -> bool:
    """Whether the URL names no port, or one that exists."""
    return url.port is None or 0 < url.port < 65_536


def _sentence(host: str, error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"'{host}' did not answer within {seconds:g} seconds."
    if isinstance(error, httpcore.ProtocolError | httpx.DecodingError):
        return f"'{host}' did not answer in HTTP."
    if _is_about_tls(error):
        return f"'{host}' has no certificate that can be verified."
    return f"'{host}' cannot be reached."


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
