"""PostgreSQL, by asyncpg."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from sinas.databases.base import (
    Catalog,
    DatabaseTarget,
    Limits,
    ReadOnlyError,
    Result,
    Statement,
    StatementError,
    UnreachableError,
)
from sinas.databases.checks import check_single
from sinas.databases.parameters import parse
from sinas.databases.postgresql_catalog import CATALOG
from sinas.databases.postgresql_times import read_times
from sinas.databases.postgresql_values import encoded
from sinas.databases.tls import context_for
from sinas.databases.told import (
    MAX_RESULT_BYTES,
    check_writable,
    out_of_reach,
    timed_out,
    too_large,
)

_CONNECT_SECONDS = 10.0
_GRACE_SECONDS = 1.0
# Ends the transaction and everything a statement may have left behind, in one round trip.
# DEALLOCATE is not here: asyncpg keeps prepared statements and knows their names.
_END = (
    "{}; SELECT pg_catalog.pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL; DISCARD TEMP"
)
_BATCH_ROWS = 1001
_ROLE = Statement("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")


async def open_database(target: DatabaseTarget) -> "PostgresDatabase":
    """A pool whose first connection works.

    Raises:
        UnreachableError: It does not.
    """
    pool = asyncpg.create_pool(
        host=target.host,
        port=target.port,
        user=target.username,
        # Empty, not None: for None, asyncpg would look into the server's own environment.
        password=target.password or "",
        passfile="/dev/null",
        database=target.database,
        ssl=_tls(target),
        min_size=min(target.min_pool_size, target.max_pool_size),
        max_size=target.max_pool_size,
        max_inactive_connection_lifetime=60,
        timeout=_CONNECT_SECONDS,
        server_settings={
            "application_name": "sinas",
            # A connection that is cut off must not hold its locks for ever.
            "idle_in_transaction_session_timeout": "60000",
        },
        init=_prepare_types,
        reset=_nothing,
    )
    try:
        await pool
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        await _terminated(pool)
        raise UnreachableError(unreachable(target, error)).coded(_code(error)) from error
    except BaseException:
        await _terminated(pool)
        raise
    return PostgresDatabase(pool, target)


class PostgresDatabase:
    """One pool."""

    def __init__(self, pool: asyncpg.Pool, target: DatabaseTarget) -> None:
        self._pool = pool
        self._target = target

    @property
    def catalog(self) -> Catalog:
        """Statements over `pg_catalog` and `information_schema`."""
        return CATALOG

    async def check(self, limits: Limits) -> str | None:
        """Whether the role is a superuser."""
        found = await self.read(_ROLE, limits)
        if found.rows and found.rows[0][0]:
            return (
                "This role is a superuser: even what only reads can reach the server's files then. "
                "A role of its own is safer."
            )
        return None

    async def read(self, statement: Statement, limits: Limits) -> Result:
        """One statement in a READ ONLY transaction that is always rolled back.

        So nothing that a read-only transaction does allow (a notification, a setting, a
        session's lock) outlives it either. Rows come from a cursor of the protocol.
        """
        parsed = parse(statement.sql, "postgresql")
        check_single(parsed)
        text, names = parsed.numbered()
        async with self._connection(limits) as connection:
            await connection.execute(f"BEGIN READ ONLY; {_timeout(limits)}")
            prepared = await connection.prepare(text)
            arguments = encoded(prepared.get_parameters(), names, statement.parameters)
            cursor = await prepared.cursor(*arguments)
            rows = await _fetched(cursor, limits.rows + 1)
            columns = tuple(each.name for each in prepared.get_attributes())
            return _result(columns, rows, limits, None)

    async def write(self, statements: Sequence[Statement], limits: Limits) -> Result:
        """All in one transaction; the last one's rows and count."""
        check_writable(self._target)
        result = Result()
        async with self._connection(limits) as connection:
            await connection.execute(f"BEGIN; {_timeout(limits)}")
            for statement in statements:
                result = await _run(connection, statement, limits)
            # Not with what `_ended` sends: a constraint that is checked last fails here.
            await connection.execute("COMMIT")
        return result

    async def aclose(self) -> None:
        """Close at once: what still runs is cut off."""
        await _terminated(self._pool)

    @asynccontextmanager
    async def _connection(self, limits: Limits) -> AsyncIterator[asyncpg.Connection]:
        """A connection for the block; the driver's errors become ours.

        The time limit covers waiting for a free connection, too. A statement whose task is
        cancelled, or whose limit passed, is cancelled on the server by asyncpg.
        """
        try:
            async with (
                asyncio.timeout(limits.seconds + _GRACE_SECONDS),
                self._pool.acquire() as connection,
            ):
                try:
                    yield connection
                finally:
                    await _ended(connection)
        except TimeoutError as error:
            raise timed_out(limits) from error
        except asyncpg.QueryCanceledError as error:
            raise timed_out(limits) from error
        except asyncpg.ReadOnlySQLTransactionError as error:
            raise ReadOnlyError(f"{_told(error)}: this only reads.") from error
        except (
            asyncpg.PostgresConnectionError,
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.CannotConnectNowError,
            asyncpg.TooManyConnectionsError,
            asyncpg.AdminShutdownError,
            OSError,
        ) as error:
            raise UnreachableError(unreachable(self._target, error)).coded(_code(error)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StatementError(_told(error)).coded(_code(error)) from error
        except (ValueError, OverflowError) as error:
            # What the driver has no value for: an interval of a million years, say.
            raise StatementError(
                f"A value of the result cannot be read ({error}); cast its column to text."
            ) from error


async def _run(connection: asyncpg.Connection, statement: Statement, limits: Limits) -> Result:
    parsed = parse(statement.sql, "postgresql")
    check_single(parsed)
    text, names = parsed.numbered()
    prepared = await connection.prepare(text)
    arguments = encoded(prepared.get_parameters(), names, statement.parameters)
    # Not by a cursor: a change has to be carried out for all rows, however many are shown.
    rows = await prepared.fetch(*arguments)
    columns = tuple(each.name for each in prepared.get_attributes())
    return _result(columns, rows, limits, _affected(prepared.get_statusmsg()))


def _result(
    columns: tuple[str, ...], rows: Sequence[Any], limits: Limits, affected: int | None
) -> Result:
    shown = [tuple(row) for row in rows[: limits.rows]]
    return Result(columns=columns, rows=shown, affected=affected, is_cut=len(rows) > limits.rows)


def _affected(status: str | None) -> int:
    """Of `INSERT 0 3`, `UPDATE 2`, `CREATE TABLE`."""
    last = (status or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


def _timeout(limits: Limits) -> str:
    return f"SET LOCAL statement_timeout = {max(1, int(limits.seconds * 1000))}"


async def _ended(connection: asyncpg.Connection) -> None:
    """Leave the connection as it was, or close it: the next user must find nothing."""
    try:
        # Shielded: a caller who left must not leave the transaction behind.
        await asyncio.shield(
            connection.execute(
                _END.format("ROLLBACK" if connection.is_in_transaction() else "SELECT 1")
            )
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.CancelledError):
        connection.terminate()
        raise


async def _nothing(connection: asyncpg.Connection) -> None:
    """In place of asyncpg's own reset: `_ended` did it, in the same round trip."""


async def _prepare_types(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=str, decoder=json.loads, format="text"
        )
    await read_times(connection)


async def _fetched(cursor: Any, count: int) -> list[Any]:
    """Up to `count` rows, in batches: a result too large for memory is given up in time."""
    rows: list[Any] = []
    size = 0
    while len(rows) < count:
        batch = await cursor.fetch(min(_BATCH_ROWS, count - len(rows)))
        rows += batch
        size += _size(batch)
        if size > MAX_RESULT_BYTES:
            raise too_large()
        if len(batch) < _BATCH_ROWS:
            break
    return rows


def _size(rows: Sequence[Any]) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 8 for row in rows for value in row)


async def _terminated(pool: asyncpg.Pool) -> None:
    with suppress(asyncpg.InterfaceError):
        pool.terminate()


def _tls(target: DatabaseTarget) -> str | ssl.SSLContext | bool:
    if target.host.startswith("/"):
        return False
    if target.ssl_mode in ("disable", "allow", "prefer"):
        return "disable" if target.ssl_mode == "disable" else target.ssl_mode
    return context_for(target)


def unreachable(target: DatabaseTarget, error: BaseException) -> str:
    """Why there is no connection, without addresses that the caller did not give."""
    if isinstance(error, TimeoutError):
        reason = f"no answer within {_CONNECT_SECONDS:g} s"
    else:
        reason = _told(error)
    return out_of_reach(target, reason)


def _code(error: BaseException) -> str | None:
    return getattr(error, "sqlstate", None)


def _told(error: BaseException) -> str:
    """The server's own sentence, with what it adds."""
    text = str(error).strip() or type(error).__name__
    fields: Mapping[str, Any] = error.as_dict() if isinstance(error, asyncpg.PostgresError) else {}
    message = str(fields.get("message") or text)
    if "could not determine data type of parameter" in message:
        return f"{message}; write its type, as in :name::text."
    details = [str(fields[key]) for key in ("detail", "hint") if fields.get(key)]
    return " ".join([message, *details])
