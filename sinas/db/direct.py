"""Raw asyncpg connections for the one query that every request makes.

SQLAlchemy's pool, cursor and greenlets cost about 0.45 ms of CPU per statement, the query
itself 0.07 ms; at a thousand requests a second that is the difference between one core and
two. Everything else goes through the engine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from sinas.errors import UnavailableError

_CONNECT_SECONDS = 10.0
_UNREACHABLE = "The database is not reachable right now; try again in a moment."
_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
# What asyncpg says when the server's farewell has arrived but not been read yet.
_BREAKING = (*_BROKEN, asyncpg.InternalClientError)


class DirectReads:
    """A few connections outside any transaction, used last in, first out.

    They are opened when needed and closed with the engine.
    """

    def __init__(self, engine: AsyncEngine, size: int = 4) -> None:
        url = engine.url.set(drivername="postgresql")
        self._dsn = url.render_as_string(hide_password=False)
        self._idle: list[Any] = []
        self._free = asyncio.Semaphore(size)
        event.listen(engine.sync_engine, "engine_disposed", self._end)

    async def fetch_one(self, statement: str, *parameters: object) -> Any | None:
        """The first row of a statement with `$1` parameters, prepared once per connection.

        A connection that broke while it was idle (the database restarted) is replaced, so the
        statement must be one that may run twice.

        Raises:
            UnavailableError: The database does not answer.
        """
        async with self._free:
            while self._idle:
                try:
                    async with self._lent(self._idle.pop()) as connection:
                        return await connection.fetchrow(statement, *parameters)
                except _BREAKING:
                    # Whatever else is idle broke with it, or shows on its own try that it did not.
                    continue
            try:
                async with self._lent(await self._connect()) as connection:
                    return await connection.fetchrow(statement, *parameters)
            except (*_BROKEN, asyncpg.CannotConnectNowError, TimeoutError) as error:
                raise UnavailableError(_UNREACHABLE, retry_after_seconds=2) from error

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_SECONDS,
            server_settings={"application_name": "sinas", "jit": "off"},
        )

    @asynccontextmanager
    async def _lent(self, connection: Any) -> AsyncIterator[Any]:
        try:
            yield connection
        except BaseException:
            # Cancelled in the middle of a query it could not be used at once, and what else can
            # happen here is rare: a new connection is the simplest sound answer.
            connection.terminate()
            raise
        self._idle.append(connection)

    def _end(self, _: object) -> None:
        while self._idle:
            self._idle.pop().terminate()
