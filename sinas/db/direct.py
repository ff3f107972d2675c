"""Raw asyncpg connections for the few statements that every request or call makes.

SQLAlchemy's pool, cursor and greenlets cost about 0.45 ms of CPU per statement, the query
itself 0.07 ms; at a thousand requests a second that is the difference between one core and
two. Everything else goes through the engine.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from sqlalchemy import Select, UpdateBase, event, literal_column, or_, select
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from typing_extensions import override

from sinas.errors import UnavailableError
from sinas.kit.json_text import stored

_CONNECT_SECONDS = 10.0
_UNREACHABLE = "The database is not reachable right now; try again in a moment."
_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
# What asyncpg says when the server's farewell has arrived but not been read yet.
_BREAKING = (*_BROKEN, asyncpg.InternalClientError)


class Statement:
    """A statement over `bindparam`s, compiled once into what asyncpg takes.

    Its parameters must be what asyncpg knows by itself: text (text enums included), numbers,
    times, UUIDs, and JSON values for JSONB. An insert names every column whose default the
    model makes by a function. `inline` writes the values it was built with into the text, which
    lists of values and partial indexes need.
    """

    def __init__(
        self, statement: Select[*tuple[Any, ...]] | UpdateBase, *, inline: bool = False
    ) -> None:
        self.source = statement
        compiled = statement.compile(
            dialect=dialect(),  # type: ignore[no-untyped-call]
            compile_kwargs={"literal_binds": inline},
        )
        self.sql = str(compiled)
        # What the models put into columns that an insert does not name.
        defaults = {
            column.key: column.default.arg
            for column in getattr(compiled, "insert_prefetch", ())
            if column.default is not None and column.default.is_scalar
        }
        self._constants = dict(compiled.params) | defaults
        self._order = tuple(getattr(compiled, "positiontup", None) or ())

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Values for `$1`, `$2`, … ; those not given have the value they were built with."""
        values = self._constants | dict(parameters)
        return [values[name] for name in self._order]


def any_row(*selects: Select[*tuple[Any, ...]]) -> Statement:
    """Answers a row where one of these has one, locked or not. They must not lock themselves."""
    found = or_(*(each.exists() for each in selects))
    return Statement(select(literal_column("1").label("found")).where(found), inline=True)


class _Connections:
    """A few connections outside any transaction, used last in, first out.

    They are opened when needed and closed with the engine.
    """

    def __init__(self, engine: AsyncEngine, size: int) -> None:
        url = engine.url.set(drivername="postgresql")
        self._dsn = url.render_as_string(hide_password=False)
        self._idle: list[Any] = []
        self._free = asyncio.Semaphore(size)
        event.listen(engine.sync_engine, "engine_disposed", self._end)

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

    def _end(self, _: object = None) -> None:
        while self._idle:
            self._idle.pop().terminate()


class DirectReads(_Connections):
    """Queries that may run twice."""

    def __init__(self, engine: AsyncEngine, size: int = 4) -> None:
        super().__init__(engine, size)

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


class DirectStatements(_Connections):
    """Single statements that may write, each a transaction of its own. JSONB is JSON values."""

    def __init__(self, engine: AsyncEngine, size: int = 16) -> None:
        super().__init__(engine, size)

    async def one(self, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        """Run it; the first row it returns, None where there is none.

        Raises:
            ConnectionError: The database is not reachable. Whether the statement took effect is
                not known.
            DBAPIError: The database refused the statement or its values, as the engine says it.
        """
        async with self._free:
            try:
                connection = self._idle.pop() if self._idle else await self._connect()
                async with self._lent(connection):
                    return await connection.fetchrow(
                        statement.sql, *statement.arguments(parameters)
                    )
            except (asyncpg.DataError, ValueError) as error:
                raise DBAPIError(statement.sql, None, error, hide_parameters=True) from error
            except (*_BREAKING, asyncpg.CannotConnectNowError, TimeoutError) as error:
                self._end()
                raise ConnectionError(_UNREACHABLE) from error
            except asyncpg.PostgresError as error:
                raise DBAPIError(statement.sql, None, error, hide_parameters=True) from error

    @override
    async def _connect(self) -> Any:
        connection = await super()._connect()
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=stored, decoder=orjson.loads, format="text"
            )
        return connection
