"""A keep-alive HTTP/1.1 client on a bare protocol, cheap enough to share cores with a server.

One request at a time per connection. Streams need no mode of their own: every piece of a body
is kept with the time it arrived, so that server-sent events are dated afterwards.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

import httptools
import orjson
from typing_extensions import override


class BrokenAnswerError(ConnectionError):
    """The server closed the connection before the answer was complete."""


@dataclass(slots=True)
class Answer:
    """An answer, with times of the monotonic clock in seconds.

    Attributes:
        opened: When its headers had arrived.
    """

    sent: float
    status: int = 0
    opened: float = 0.0
    done: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    @property
    def seconds(self) -> float:
        return self.done - self.sent

    def json(self) -> Any:
        return orjson.loads(self.body)

    def events(self) -> Iterator[tuple[float, str, str]]:
        """Server-sent events: when the last byte of each arrived, its name, its data."""
        rest = b""
        for at, data in self.pieces:
            *blocks, rest = (rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
            for block in blocks:
                lines = dict(line.split(": ", 1) for line in block.decode().split("\n"))
                yield at, lines.get("event", ""), lines.get("data", "")


class Connection(asyncio.Protocol):
    """One TCP connection to the server, kept alive."""

    def __init__(self, host: str, port: int, head: str) -> None:
        self._head = f"Host: {host}:{port}\r\n{head}"
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._finished: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request and wait for the whole answer, whatever its status.

        Raises:
            BrokenAnswerError: The connection was closed before that.
        """
        data = b"" if body is None else orjson.dumps(body)
        kind = "Content-Type: application/json\r\n" if data else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(data)}\r\n\r\n"
        self._finished = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            raise BrokenAnswerError("the connection is closed")
        self._answer = Answer(time.perf_counter())
        self._transport.write(head.encode() + data)
        return await self._finished

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # cast: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._finished is not None and not self._finished.done():
            self._finished.set_exception(BrokenAnswerError("closed before the answer's end"))

    @override
    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # httptools callbacks

    def on_message_begin(self) -> None:
        # Server and client may disagree on nothing here, but a keep-alive parser is reused.
        assert self._answer is not None

    def on_headers_complete(self) -> None:
        assert self._answer is not None
        self._answer.status = self._parser.get_status_code()
        self._answer.opened = time.perf_counter()

    def on_body(self, body: bytes) -> None:
        assert self._answer is not None
        self._answer.pieces.append((time.perf_counter(), body))

    def on_message_complete(self) -> None:
        answer, finished = self._answer, self._finished
        if answer is None or finished is None or finished.done():
            return
        answer.done = time.perf_counter()
        finished.set_result(answer)


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send requests, and with which key."""

    host: str
    port: int
    key: str = ""

    @classmethod
    def of(cls, url: str, key: str = "") -> Self:
        host, _, port = url.removeprefix("http://").split("/")[0].partition(":")
        return cls(host, int(port or 80), key)

    async def connect(self) -> Connection:
        head = f"X-API-Key: {self.key}\r\n" if self.key else ""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self.host, self.port, head), self.host, self.port
        )
        return connection

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request on a connection of its own; its JSON answer, None for an empty one.

        Raises:
            RuntimeError: The status is not 2xx.
        """
        connection = await self.connect()
        try:
            answer = await connection.request(method, path, body)
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            said = answer.body.decode(errors="replace")
            raise RuntimeError(f"{method} {path} answered {answer.status}: {said}")
        return answer.json() if answer.body else None
