"""Connections to one MySQL or MariaDB server, each clean when it is handed out.

Not aiomysql's own pool: that one opens its own class of connection, opens one at a time while all
others wait, and hands out connections as their last user left them.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import structlog
from pymysql.err import InterfaceError, MySQLError

from sinas.databases.base import DatabaseError, DatabaseTarget
from sinas.databases.mysql_connection import Connection, open_connection

log = structlog.get_logger(__name__)

# The statement that prepares a session, for a server of these variables.
Session: TypeAlias = Callable[[Mapping[str, str]], str]

_IDLE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 3.0
_NO_SUCH_THREAD: Final = 1094


class Pool:
    """At most `max_pool_size` connections, those that stop others not counted."""

    def __init__(self, target: DatabaseTarget, tls: ssl.SSLContext | None) -> None:
        self._target = target
        self._tls = tls
        self._least = min(target.min_pool_size, target.max_pool_size)
        self._free = asyncio.Semaphore(target.max_pool_size)
        # The one that was used last is on the right, and is used next.
        self._idle: deque[tuple[float, Connection]] = deque()
        self._used: set[Connection] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def open(self) -> Mapping[str, str]:
        """Open the connections that are always there, one at least; what the server is.

        Raises:
            UnreachableError: One of them cannot be opened.
        """
        try:
            for _ in range(max(1, self._least)):
                connection = await open_connection(self._target, self._tls)
                self._idle.append((time.monotonic(), connection))
        except BaseException:
            await self.aclose()
            raise
        return self._idle[-1][1].facts

    @asynccontextmanager
    async def connection(self, session: Session) -> AsyncIterator[Connection]:
        """A connection for the block, whose session has these settings.

        Whatever the block did to the session is undone afterwards, without the caller waiting for
        it. A statement that still runs when the block ends is stopped on the server first.

        Raises:
            UnreachableError: No connection.
            MySQLError: The pool is closed, or the settings were refused.
        """
        await self._free.acquire()
        try:
            connection = await self._ready(session)
        except BaseException:
            self._free.release()
            raise
        self._used.add(connection)
        try:
            yield connection
        finally:
            self._used.discard(connection)
            must_stop = connection.is_running
            ended = self._begin(self._given_back(connection))
            if must_stop:
                # Shielded: a caller who left must not leave the statement behind.
                await asyncio.shield(ended)

    async def aclose(self) -> None:
        """Close all; who uses one meanwhile stops, on the server too, what runs."""
        self._is_closed = True
        for connection in self._used:
            connection.cut()
        while self._idle:
            self._idle.pop()[1].cut()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _ready(self, session: Session) -> Connection:
        while True:
            if self._is_closed:
                raise InterfaceError("The pool of this connection was closed.")
            was_idle = bool(self._idle)
            if was_idle:
                _, connection = self._idle.pop()
            else:
                connection = await open_connection(self._target, self._tls)
            try:
                await connection.command(session(connection.facts))
            except MySQLError:
                is_lost = connection.closed
                connection.cut()
                # Nothing was asked of it yet: the server only closed what was idle too long.
                if not (was_idle and is_lost):
                    raise
            except BaseException:
                connection.cut()
                raise
            else:
                return connection

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Outlives the request it belongs to; `aclose` waits for it, and it handles its errors.
        task = asyncio.create_task(work)  # noqa: TID251 - see above
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _given_back(self, connection: Connection) -> None:
        try:
            if connection.is_running:
                await self._stop(connection)
            elif not connection.closed:
                await self._reset(connection)
        finally:
            self._free.release()

    async def _reset(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await connection.reset()
        except (MySQLError, OSError):
            connection.cut()
        except BaseException:
            connection.cut()
            raise
        if self._is_closed:
            connection.cut()
        elif not connection.closed:
            self._idle.append((time.monotonic(), connection))
            self._close_old()

    def _close_old(self) -> None:
        before = time.monotonic() - _IDLE_SECONDS
        while self._idle and self._idle[0][0] < before:
            if len(self._idle) + len(self._used) <= max(1, self._least):
                return
            self._idle.popleft()[1].cut()

    async def _stop(self, connection: Connection) -> None:
        """End a connection on the server: by closing a socket alone, its statement goes on."""
        connection.cut()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                other = await open_connection(self._target, self._tls)
                try:
                    # Another server of that address has other connections of that number.
                    if _identity(other) == _identity(connection):
                        await other.command(f"KILL {connection.number}")
                finally:
                    other.cut()
        except (DatabaseError, MySQLError, OSError) as error:
            if error.args[:1] != (_NO_SUCH_THREAD,):
                log.warning("mysql.not_stopped", connection=self._target.name, error=str(error))


def _identity(connection: Connection) -> tuple[str | None, ...]:
    return tuple(connection.facts.get(name) for name in ("hostname", "server_uuid"))
