"""MySQL and MariaDB, by aiomysql."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from pymysql.err import InterfaceError, MySQLError

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
from sinas.databases.mysql_catalog import catalog_for
from sinas.databases.mysql_connection import (
    Connection,
    ResultTooLargeError,
    told,
    unreachable,
)
from sinas.databases.mysql_pool import Pool
from sinas.databases.mysql_values import written
from sinas.databases.parameters import parse
from sinas.databases.tls import context_for
from sinas.databases.told import check_writable, timed_out, too_large

_GRACE_SECONDS: Final = 1.0
# Rows of which a change shows none are read in batches of so many.
_BATCH_ROWS: Final = 1000
# Whatever the server's own mode: quotes and backslashes mean what `parameters` believes, and a
# value that does not fit is an error.
_SQL_MODE: Final = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_READ_ONLY: Final = 1792
_TOO_LONG: Final = frozenset({1317, 1969, 3024})
# Too many connections, shut down, connection killed, gone, lost, out of step, idle too long.
_LOST: Final = frozenset({1040, 1053, 1927, 2006, 2013, 2014, 4031})
_READS: Final = frozenset(
    {"select", "with", "values", "table", "show", "describe", "desc", "explain"}
)
# By their first letters, so that nothing else can be meant: MySQL prepares them without columns.
_LOOKS: Final = re.compile(r"[ \t\r\n]*(?:SHOW|DESCRIBE|DESC|EXPLAIN)\b", re.IGNORECASE)
_MAX_GRANTS: Final = 1000
_GRANTED: Final = re.compile(r"GRANT (?P<rights>.+?) ON \*\.\* TO ")
_MIGHTY: Final = frozenset({"ALL PRIVILEGES", "FILE", "SUPER"})


async def open_database(target: DatabaseTarget) -> "MySQLDatabase":
    """A pool whose first connection works.

    Raises:
        UnreachableError: It does not.
    """
    pool = Pool(target, _tls(target))
    facts = await pool.open()
    return MySQLDatabase(pool, target, facts)


class MySQLDatabase:
    """One pool."""

    def __init__(self, pool: Pool, target: DatabaseTarget, facts: Mapping[str, str]) -> None:
        self._pool = pool
        self._target = target
        self._catalog = catalog_for(target.database, facts.get("version", ""))

    @property
    def catalog(self) -> Catalog:
        """Statements over `information_schema`."""
        return self._catalog

    async def check(self, limits: Limits) -> str | None:
        """Whether the role can reach the server's files."""
        # One for each database it has rights on.
        limits = replace(limits, rows=_MAX_GRANTS)
        found = await self.read(Statement("SHOW GRANTS"), limits)
        if any(_is_mighty(str(row[0])) for row in found.rows):
            return (
                "This role has the right FILE or SUPER: even what only reads can reach the "
                "server's files then. A role of its own is safer."
            )
        return None

    async def read(self, statement: Statement, limits: Limits) -> Result:
        """One statement that gives rows, in a READ ONLY transaction.

        MariaDB refuses changes of data in such a transaction, but not CREATE TABLE, which ends it;
        nor does either server refuse a procedure that does. So the server is asked first what the
        text is, by preparing it: none of these gives rows. `sql_select_limit` asks for no more
        than are shown; a LIMIT of the text goes before it, and then the rest stays unread.
        """
        check_single(parse(statement.sql, "mysql"))
        text = written(statement.sql, statement.parameters)
        async with self._connection(limits, limits.rows + 1) as connection:
            await connection.command("START TRANSACTION READ ONLY")
            await _check_read(connection, statement.sql, text)
            cursor = await connection.run(text)
            rows = await connection.fetched(cursor, limits.rows + 1)
            if len(rows) > limits.rows:
                await connection.look_for_end(cursor)
            return Result(
                columns=_columns(cursor),
                rows=rows[: limits.rows],
                is_cut=len(rows) > limits.rows,
            )

    async def write(self, statements: Sequence[Statement], limits: Limits) -> Result:
        """All in one transaction, the last one's rows and count.

        Changes of structure end a transaction in these databases: what was done before stays.
        """
        check_writable(self._target)
        texts = []
        for statement in statements:
            check_single(parse(statement.sql, "mysql"))
            texts.append(written(statement.sql, statement.parameters))
        result = Result()
        async with self._connection(limits, None) as connection:
            await connection.command("START TRANSACTION")
            for text in texts:
                result = await _changed(connection, text, limits)
            await connection.command("COMMIT")
        return result

    async def aclose(self) -> None:
        """Close at once: what still runs is stopped."""
        await self._pool.aclose()

    @asynccontextmanager
    async def _connection(self, limits: Limits, rows: int | None) -> AsyncIterator[Connection]:
        """A connection for the block; the driver's errors become ours.

        The time limit covers waiting for a free connection, too. A statement whose task is
        cancelled, or whose limit passed, is stopped on the server by the pool.
        """
        try:
            async with (
                asyncio.timeout(limits.seconds + _GRACE_SECONDS),
                self._pool.connection(lambda facts: _session(facts, limits, rows)) as connection,
            ):
                yield connection
        except TimeoutError as error:
            raise timed_out(limits) from error
        except ResultTooLargeError as error:
            raise too_large() from error
        except MySQLError as error:
            raise self._translated(error, limits) from error

    def _translated(self, error: MySQLError, limits: Limits) -> Exception:
        code = error.args[0] if error.args else None
        if code in _TOO_LONG:
            return timed_out(limits)
        if code == _READ_ONLY:
            return ReadOnlyError(f"{told(error)}: this only reads.")
        if code in _LOST or isinstance(error, InterfaceError):
            return UnreachableError(unreachable(self._target, error))
        return StatementError(told(error))


def _session(facts: Mapping[str, str], limits: Limits, rows: int | None) -> str:
    """What a session must know before a statement; the pool's reset takes it back."""
    values = [
        "NAMES utf8mb4",
        f"SESSION sql_mode = '{_SQL_MODE}'",
        "SESSION time_zone = '+00:00'",
        # A statement after one that ends the transaction begins another.
        "SESSION autocommit = 0",
        # A connection that is cut off must not hold its locks for ever.
        "SESSION wait_timeout = 60",
        # A text that is longer would be cut without an error.
        "SESSION group_concat_max_len = 16777216",
    ]
    if rows is not None:
        values.append(f"SESSION sql_select_limit = {rows}")
    milliseconds = max(1, int(limits.seconds * 1000))
    if "MariaDB" in facts.get("version", "") and "max_statement_time" in facts:
        values.append(f"SESSION max_statement_time = {milliseconds / 1000}")
    elif "max_execution_time" in facts:
        values.append(f"SESSION max_execution_time = {milliseconds}")
    return f"SET {', '.join(values)}"


async def _check_read(connection: Connection, sql: str, text: str) -> None:
    """Refuse what could change something although the transaction is READ ONLY.

    Raises:
        ReadOnlyError: It could.
    """
    if _LOOKS.match(text):
        return
    if not await connection.gives_rows(text):
        raise ReadOnlyError("What gives no rows, as this does, cannot be run: this only reads.")
    # CHECK TABLE and its like give some.
    first = parse(sql, "mysql").words[0]
    if first not in _READS:
        raise ReadOnlyError(f"{first.upper()} cannot be run: this only reads.")


async def _changed(connection: Connection, text: str, limits: Limits) -> Result:
    cursor = await connection.run(text)
    columns = _columns(cursor)
    rows = await connection.fetched(cursor, limits.rows + 1)
    count = len(rows)
    while connection.is_running:
        # A change has to be carried out for all rows, however many are shown.
        count += len(await connection.fetched(cursor, _BATCH_ROWS))
    affected = count if columns else int(cursor.rowcount)
    while await connection.next_set(cursor):
        # What a procedure gave besides; the last is its own count.
        affected = int(cursor.rowcount)
    return Result(
        columns=columns,
        rows=rows[: limits.rows],
        affected=affected,
        is_cut=len(rows) > limits.rows,
    )


def _columns(cursor: Any) -> tuple[str, ...]:
    return tuple(str(each[0]) for each in cursor.description or ())


def _is_mighty(grant: str) -> bool:
    found = _GRANTED.match(grant)
    rights = found["rights"].split(", ") if found else ()
    return not _MIGHTY.isdisjoint(rights)


def _tls(target: DatabaseTarget) -> ssl.SSLContext | None:
    """`allow` and `prefer` take TLS where the server has it."""
    return None if target.ssl_mode == "disable" else context_for(target)
