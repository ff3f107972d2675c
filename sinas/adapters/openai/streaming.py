"""Streams and waits that end when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from sinas.web.leaving import ClientGoneError, departure

T = TypeVar("T")

_HEADERS: Final = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
# A comment, which clients of server-sent events pass over (WHATWG HTML, 9.2.6).
_KEEP_ALIVE: Final = b": keep-alive\n\n"


class EventStream(Response):
    """Server-sent events, written as they come in whole lines; comments in their pauses.

    Not Starlette's or sse-starlette's streams: those cost a task group of anyio, tasks and
    checks for every piece, which is more than relaying one. `on_leave` is awaited when the
    client leaves before the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        keep_alive_seconds: float,
        headers: Mapping[str, str] | None = None,
        on_leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._pieces = pieces
        self._pause = keep_alive_seconds
        self._on_leave = on_leave
        self._written_at = 0.0
        self.init_headers({**_HEADERS, **(headers or {})})
        del self.headers["content-length"]

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group, aclosing(self._pieces):
                beside = [
                    group.create_task(departure(receive)),
                    group.create_task(self._fill_pauses(send)),
                ]
                try:
                    await self._write(send)
                finally:
                    for task in beside:
                        task.cancel()
        except* ClientGoneError:
            # Closing the pieces has ended what made them here.
            if self._on_leave is not None:
                await self._on_leave()

    async def _write(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        self._written_at = now()
        await send(
            {"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)}
        )
        async for piece in self._pieces:
            self._written_at = now()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fill_pauses(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left = self._written_at + self._pause - loop.time()
            await asyncio.sleep(max(left, 0.01))
            if loop.time() >= self._written_at + self._pause:
                self._written_at = loop.time()
                await send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
