"""Snowflake's sessions, by the async side of snowflake-connector-python."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from snowflake.connector import aio, errors

from sinas.databases.base import (
    Catalog,
    DatabaseTarget,
    Limits,
    Result,
    Statement,
    StatementError,
    StatementTimeoutError,
    UnreachableError,
)
from sinas.databases.checks import check_single
from sinas.databases.parameters import Parsed, parse
from sinas.databases.snowflake_answers import (
    fetched,
    is_refusal,
    run,
    statement_kind,
    translated,
)
from sinas.databases.snowflake_catalog import catalog_of
from sinas.databases.snowflake_login import LOGIN_SECONDS, login_of
from sinas.databases.snowflake_reads import check_kind, check_text
from sinas.databases.snowflake_values import bound
from sinas.databases.told import check_writable, out_of_reach, timed_out

_CHANGES: Final = frozenset(["insert", "update", "delete", "merge"])
_LOOKS: Final = frozenset(["select", "with", "show", "describe", "desc", "explain", "call"])
# Snowflake forgets a session that nobody used for four hours.
_IDLE_SECONDS: Final = 1800.0
_CHAIN: Final = "->>"
# Files of this machine, which the connector would send or write.
_FILES: Final = frozenset(["put", "get"])
_ROLE: Final = Statement("SELECT CURRENT_ROLE()")
_MIGHTY: Final = frozenset(["ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "ORGADMIN"])


async def opened(target: DatabaseTarget) -> "SnowflakeDatabase":
    """Sessions, one of which is open.

    Raises:
        UnreachableError: There is none.
    """
    database = SnowflakeDatabase(target)
    try:
        async with database.session(Limits(seconds=2 * LOGIN_SECONDS)):
            pass
    except StatementTimeoutError as error:
        reason = f"no answer within {2 * LOGIN_SECONDS} s"
        raise UnreachableError(out_of_reach(target, reason)) from error
    except StatementError as error:
        raise UnreachableError(out_of_reach(target, error.message)) from error
    return database


class SnowflakeDatabase:
    """Sessions of one account; each runs one statement at a time."""

    def __init__(self, target: DatabaseTarget) -> None:
        self._target = target
        self._login = login_of(target)
        self._slots = asyncio.Semaphore(target.max_pool_size)
        self._free: list[tuple[Any, float]] = []
        self._open: set[Any] = set()

    @property
    def catalog(self) -> Catalog:
        """Statements over INFORMATION_SCHEMA."""
        return catalog_of(_as_kept(self._login["schema"]))

    async def check(self, limits: Limits) -> str | None:
        """Whether the role may do nearly everything."""
        found = await self.read(_ROLE, limits)
        role = str(found.rows[0][0]) if found.rows else ""
        if role in _MIGHTY:
            return (
                f"This session has the role {role}, which may do nearly everything in the "
                "account. A role of its own is safer; config.role chooses it."
            )
        return None

    async def read(self, statement: Statement, limits: Limits) -> Result:
        """One statement that the server itself calls one that looks, in a transaction undone."""
        parsed = _parsed(statement)
        check_text(parsed, statement.sql)
        sql, values = bound(parsed, statement.parameters)
        async with self.session(limits) as session:
            check_kind(parsed, await statement_kind(session, sql, values))
            async with _transaction(session, "ROLLBACK", limits):
                return await fetched(await run(session, sql, values, limits), limits)

    async def write(self, statements: Sequence[Statement], limits: Limits) -> Result:
        """All in one transaction; what changes the structure commits what was before it."""
        check_writable(self._target)
        parsed = [_parsed(each) for each in statements]
        # Temporary tables, procedures: what else may outlive the statement in its session.
        is_plain = all(each.words[0] in _CHANGES for each in parsed)
        result = Result()
        async with (
            self.session(limits, is_kept=is_plain) as session,
            _transaction(session, "COMMIT", limits),
        ):
            for each, statement in zip(parsed, statements, strict=True):
                result = await _changed(session, each, statement, limits)
        return result

    async def aclose(self) -> None:
        """Close every session, those in use included."""
        for session in list(self._open):
            await self._drop(session)

    @asynccontextmanager
    async def session(self, limits: Limits, *, is_kept: bool = True) -> AsyncIterator[Any]:
        """A session for the block; the connector's errors become ours.

        The time limit covers waiting for a free session and logging in, too. A statement whose
        limit passed, or whose task is cancelled, is aborted on the server by the connector.
        """
        try:
            async with asyncio.timeout(limits.seconds), self._slots:
                session = await self._taken()
                try:
                    yield session
                except BaseException as error:
                    is_kept = is_kept and is_refusal(error)
                    raise
                finally:
                    await self._leave(session, is_kept)
        except TimeoutError as error:
            raise timed_out(limits) from error
        except errors.Error as error:
            raise translated(error, self._target, limits) from error

    async def _leave(self, session: Any, is_kept: bool) -> None:
        if is_kept and session in self._open:
            self._free.append((session, asyncio.get_running_loop().time()))
        else:
            await self._drop(session)

    async def _taken(self) -> Any:
        """The session that was used last, or a new one."""
        before = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._free:
            session, used_at = self._free.pop()
            if used_at >= before:
                return session
            await self._drop(session)
        session = aio.Connection(**self._login)
        await session.connect()
        self._open.add(session)
        return session

    async def _drop(self, session: Any) -> None:
        """Log out, which ends its transaction."""
        if session not in self._open:
            return
        self._open.discard(session)
        self._free = [each for each in self._free if each[0] is not session]
        with suppress(errors.Error):
            # Shielded: a caller who left must not leave the transaction behind.
            await asyncio.shield(session.close(retry=False))


@asynccontextmanager
async def _transaction(session: Any, end: str, limits: Limits) -> AsyncIterator[None]:
    """Ended by `end`, or undone; one whose task is cancelled ends with its session."""
    await run(session, "BEGIN", [], limits)
    try:
        yield
        await run(session, end, [], limits)
    except (errors.Error, StatementError):
        await run(session, "ROLLBACK", [], limits)
        raise


def _as_kept(name: str) -> str:
    """A name as INFORMATION_SCHEMA has it: in capitals, unless it is quoted."""
    if len(name) > 1 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name.upper()


def _parsed(statement: Statement) -> Parsed:
    parsed = parse(statement.sql, "snowflake")
    check_single(parsed)
    first = parsed.words[0]
    if first in _FILES:
        raise StatementError(f"{first.upper()} cannot be run here: it moves files.")
    if _CHAIN in statement.sql:
        # The type that the server tells is not that of every statement in a chain.
        raise StatementError(f"Only one statement at a time can be run; {_CHAIN} chains several.")
    if first == "unset" or parsed.words == ("alter", "session"):
        raise StatementError(f"{first.upper()} cannot be run here: the session is Sinas'.")
    return parsed


async def _changed(session: Any, parsed: Parsed, statement: Statement, limits: Limits) -> Result:
    sql, values = bound(parsed, statement.parameters)
    cursor = await run(session, sql, values, limits)
    first = parsed.words[0]
    if first in _LOOKS:
        return await fetched(cursor, limits, affected=0)
    return Result(affected=max(cursor.rowcount or 0, 0) if first in _CHANGES else 0)
