"""An httpx transport for long streams: HTTP/1.1, keep-alive, llhttp instead of h11.

httpx's own transport spends about 70 µs of Python on every read (anyio, httpcore, h11), which
is 4 ms of CPU for an answer of 50 chunks; this one spends a tenth of it. It does what model
streams need and no more: no HTTP/2, no proxies (httpx mounts its own transport for those), no
streaming request bodies. Every failure is one of httpx's exceptions.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TypeAlias, cast

import httptools
import httpx
from typing_extensions import override

_IDLE_SECONDS: Final = 30.0
_MAX_IDLE_PER_ORIGIN: Final = 64
_MAX_BUFFERED_BYTES: Final = 1024 * 1024

Origin: TypeAlias = tuple[str, str, int]


class StreamTransport(httpx.AsyncBaseTransport):
    """Connections by origin; one request at a time on each, the last used is used first.

    The number of open connections has no limit of its own: it is that of the requests.
    """

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._ssl: ssl.SSLContext | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        payload = await _serialise(request)
        timeouts = request.extensions.get("timeout", {})
        origin = _origin(request.url)
        connection = self._take(origin)
        if connection is not None:
            try:
                return await self._ask(connection, payload, timeouts, request)
            except httpx.RemoteProtocolError:
                # The server closed the idle connection while our request was on its way
                # (RFC 9112, 9.3.1): ask again on a new one, unless an answer had begun.
                if connection.has_answered:
                    raise
        connection = await self._connect(origin, timeouts.get("connect"))
        return await self._ask(connection, payload, timeouts, request)

    @override
    async def aclose(self) -> None:
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    async def _ask(
        self,
        connection: "_Connection",
        payload: bytes,
        timeouts: dict[str, float | None],
        request: httpx.Request,
    ) -> httpx.Response:
        try:
            await connection.send(payload, timeouts.get("write"))
            await connection.head(timeouts.get("read"))
        except TimeoutError as error:
            connection.close()
            raise httpx.ReadTimeout("no answer", request=request) from error
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(self, connection, timeouts.get("read")),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def _connect(self, origin: Origin, timeout_seconds: float | None) -> "_Connection":
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        tls = await self._ssl_context() if scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_seconds):
                _, connection = await loop.create_connection(
                    lambda: _Connection(origin), host, port, ssl=tls
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("connecting timed out") from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
            raise httpx.ConnectError(str(error)) from error
        return connection

    async def _ssl_context(self) -> ssl.SSLContext:
        # On first use and in a thread: loading the certificates takes up to 0.2 s.
        if self._ssl is None:
            context = await asyncio.to_thread(httpx.create_ssl_context)
            context.set_alpn_protocols(["http/1.1"])
            self._ssl = context
        return self._ssl

    def _take(self, origin: Origin) -> "_Connection | None":
        idle = self._idle.get(origin)
        oldest_allowed = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while idle:
            connection = idle.pop()
            # An "answer" while idle is a server's good-bye (408): this connection is over.
            is_silent = connection.is_open and not connection.has_answered
            if is_silent and connection.idle_since >= oldest_allowed:
                return connection
            connection.close()
        return None

    def give_back(self, connection: "_Connection") -> None:
        """Keep a connection whose answer was read to its end, if the server keeps it too."""
        if not connection.can_be_kept:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        connection.has_answered = False
        idle = self._idle.setdefault(connection.origin, deque())
        idle.append(connection)
        while len(idle) > _MAX_IDLE_PER_ORIGIN or idle[0].idle_since < (
            connection.idle_since - _IDLE_SECONDS
        ):
            idle.popleft().close()


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, transport: StreamTransport, connection: "_Connection", silence: float | None
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._silence = silence
        self._closed = False

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        while piece := await connection.read(self._silence):
            yield piece

    @override
    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.give_back(self._connection)


class _Connection(asyncio.Protocol):
    """One connection. Parser callbacks fill `headers` and the body's pieces; readers wait."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_writable = True
        self._failure: str | None = None
        self._start_response()

    def _start_response(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_answered = False
        self._has_head = False
        self._is_complete = False
        self._server_keeps = False
        self._has_surplus = False
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._is_paused = False

    # -- what the transport calls

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def can_be_kept(self) -> bool:
        is_sound = self._failure is None and not self._has_surplus
        return self.is_open and self._server_keeps and is_sound

    def close(self) -> None:
        """Drop the connection at once; what was not sent or read is lost."""
        if self._transport is not None:
            self._transport.abort()

    async def send(self, payload: bytes, silence: float | None) -> None:
        """Write the request, waiting for the peer to take it as long as it takes some."""
        self._start_response()
        transport = self._transport
        if transport is None:
            raise httpx.RemoteProtocolError("the server closed the connection")
        transport.write(payload)
        while not self._is_writable and self._failure is None:
            left = transport.get_write_buffer_size()
            self._drained = self._loop.create_future()
            try:
                async with asyncio.timeout(silence):
                    await self._drained
            except TimeoutError:
                if transport.get_write_buffer_size() >= left:
                    raise

    async def head(self, silence: float | None) -> None:
        """Wait for status and headers.

        Raises:
            TimeoutError: Nothing came for that many seconds.
            httpx.RemoteProtocolError: The connection ended or the bytes are not HTTP.
        """
        while not self._has_head:
            await self._wait(silence)

    async def read(self, silence: float | None) -> bytes:
        """The next bytes of the body, `b""` at its end.

        Raises:
            httpx.ReadTimeout: Nothing came for that many seconds.
            httpx.RemoteProtocolError: The connection ended before the body did.
        """
        while not self._pieces:
            if self._is_complete:
                return b""
            try:
                await self._wait(silence)
            except TimeoutError as error:
                raise httpx.ReadTimeout("silence") from error
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def _wait(self, silence: float | None) -> None:
        if self._failure is not None:
            raise httpx.RemoteProtocolError(self._failure)
        waiter = self._waiter = self._loop.create_future()
        # A bare timer: asyncio.timeout costs more than the rest of this read.
        timer = silence and self._loop.call_later(silence, _time_out, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer:
                timer.cancel()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- asyncio.Protocol

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # cast: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        self.has_answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the server switched protocols")
        except httptools.HttpParserError as error:
            self._fail(f"the server's answer is not HTTP: {error}")
        if self._buffered > _MAX_BUFFERED_BYTES and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._has_head and not self._is_complete and self._ends_with_connection():
            self._is_complete = True
        elif self._failure is None:
            self._failure = "the server closed the connection"
        self._wake()
        self._wake_writer()

    @override
    def pause_writing(self) -> None:
        self._is_writable = False

    @override
    def resume_writing(self) -> None:
        self._is_writable = True
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _fail(self, what: str) -> None:
        self._failure = what
        self.close()

    def _ends_with_connection(self) -> bool:
        names = {name.lower() for name, _ in self.headers}
        return not names & {b"content-length", b"transfer-encoding"}

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        # A second answer nobody asked for, such as a good-bye: it must not mix with the first.
        self._has_surplus = self._is_complete
        if not self._has_surplus:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_surplus:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if not self._has_surplus:
            self.status = self._parser.get_status_code()
            self._has_head = self.status >= 200  # 1xx announces the real answer

    def on_body(self, body: bytes) -> None:
        if not self._has_surplus:
            self._pieces.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if not self._has_surplus:
            self._is_complete = self._has_head
            # Asked here because llhttp forgets it right after.
            self._server_keeps = self._has_head and self._parser.should_keep_alive()


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("the URL needs http:// or https:// and a host")
    host = url.raw_host.decode("ascii")
    return url.scheme, host, url.port or (443 if url.scheme == "https" else 80)


async def _serialise(request: httpx.Request) -> bytes:
    """The request as bytes.

    Raises:
        httpx.LocalProtocolError: A header holds a line break or NUL, which would be smuggling.
    """
    body = await request.aread()
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    for name, value in request.headers.raw:
        if any(byte in value for byte in (b"\r", b"\n", b"\0")):
            raise httpx.LocalProtocolError("a header holds a forbidden character")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
