"""Carries loopback ports of a sandbox to the Unix sockets it is shown: its only ways out."""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Callers: TypeAlias = dict[asyncio.StreamWriter, asyncio.StreamWriter]

# A call that opens more connections at once waits in the listen queue.
_MAX_CONNECTIONS = 64
_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class Route:
    """Ports, the first of which there must be, and the socket that they lead to."""

    ports: Sequence[int]
    upstream: str


class Relay:
    """A process of its own, and the listeners it has in common with the warm parent.

    Args:
        routes: What to carry where.
        uid: The relay's user; different from every call's, so that no call can signal it.
    """

    def __init__(self, routes: Sequence[Route], uid: int) -> None:
        self.pid = 0
        self._uid = uid
        self._listeners = [
            (listener, route.upstream) for route in routes for listener in _listen(route.ports)
        ]
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self) -> None:
        """Fork it."""
        pid = os.fork()
        if pid == 0:
            self._run()
        self.pid = pid

    def forget_callers(self) -> None:
        """End connections whose callers are gone, whatever their servers are up to."""
        with contextlib.suppress(BlockingIOError):  # it has not come to the last time yet
            os.write(self._ring, b"!")

    def _run(self) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._close_others()
            if self._uid:
                os.setgroups([])
                os.setresgid(self._uid, self._uid, self._uid)
                os.setresuid(self._uid, self._uid, self._uid)
            asyncio.run(self._serve())
        finally:
            os._exit(70)

    def _close_others(self) -> None:
        keep = sorted([self._bell, *(listener.fileno() for listener, _ in self._listeners)])
        low = 3
        for descriptor in keep:
            os.closerange(low, descriptor)
            low = descriptor + 1
        os.closerange(low, 1 << 20)

    async def _serve(self) -> None:
        callers: Callers = {}

        def forget() -> None:
            os.read(self._bell, 4096)
            for caller, server in tuple(callers.items()):
                if is_gone(caller, select.POLLRDHUP):
                    caller.transport.abort()
                    server.transport.abort()

        asyncio.get_running_loop().add_reader(self._bell, forget)
        async with asyncio.TaskGroup() as tasks:
            for listener, upstream in self._listeners:
                tasks.create_task(_accept(listener, upstream, callers))


def _listen(ports: Sequence[int]) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    for port in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except PermissionError:
            # Only further names of the first one can be below 1024.
            if not listeners:
                raise
            listener.close()
            continue
        listener.listen(128)
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


async def _accept(listener: socket.socket, upstream: str, callers: Callers) -> None:
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(_MAX_CONNECTIONS)
    async with asyncio.TaskGroup() as tasks:
        while True:
            await slots.acquire()
            client, _ = await loop.sock_accept(listener)
            task = tasks.create_task(_carry(client, upstream, callers))
            task.add_done_callback(lambda _: slots.release())


async def _carry(client: socket.socket, upstream: str, callers: Callers) -> None:
    with contextlib.suppress(OSError):  # the caller sees its connection closed
        caller = await asyncio.open_connection(sock=client)
        try:
            server = await asyncio.open_unix_connection(upstream)
            callers[caller[1]] = server[1]
            await splice(caller, server)
        finally:
            callers.pop(caller[1], None)
            caller[1].close()


async def splice(
    left: Stream,
    right: Stream,
    moved: Callable[[], None] = lambda: None,
) -> None:
    """Copy both ways until both sides have ended, or one is lost; closes both.

    Args:
        left: One side.
        right: The other.
        moved: Told whenever bytes came.
    """
    sides = (left[1], right[1])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                moved()
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()
        except OSError:
            for side in sides:
                side.transport.abort()

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(left[0], right[1]))
            both.create_task(copy(right[0], left[1]))
    finally:
        for side in sides:
            side.close()


def is_gone(writer: asyncio.StreamWriter, event: int) -> bool:
    """Whether poll(2) reports `event`, or an error, on the connection."""
    found = writer.get_extra_info("socket")
    if found is None or found.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(found.fileno(), event)
    return bool(poll.poll(0))
