"""ClickHouse, over its HTTP interface by httpx."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import uuid4

import httpx

from sinas.databases.base import (
    Catalog,
    DatabaseError,
    DatabaseTarget,
    Limits,
    ReadOnlyError,
    Result,
    Statement,
    StatementError,
    UnreachableError,
)
from sinas.databases.checks import check_single
from sinas.databases.clickhouse_answers import (
    FORMAT,
    AnswerError,
    check_begun,
    read_rows,
    translated,
)
from sinas.databases.clickhouse_catalog import catalog_of
from sinas.databases.clickhouse_values import bound
from sinas.databases.parameters import bare, parse
from sinas.databases.tls import context_for
from sinas.databases.told import check_writable, out_of_reach, timed_out

_CONNECT_SECONDS = 10.0
_GRACE_SECONDS = 1.0
_STOP_SECONDS = 5.0
# Less than any release of ClickHouse keeps a connection open that nobody uses.
_IDLE_SECONDS = 2.0
_TLS_PORTS: Final = frozenset([443, 8443])

# How values come; a server that knows one of these not, or a user who may not choose it, is
# asked without it.
_FORMATS: Final = {
    "date_time_output_format": "iso",
    "output_format_decimal_trailing_zeros": "1",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_decimals": "1",
    "output_format_json_quote_denormals": "1",
    "output_format_json_named_tuples_as_objects": "1",
    "output_format_json_validate_utf8": "1",
    "http_write_exception_in_output_format": "0",
}
_READING: Final = {
    **_FORMATS,
    "readonly": "1",
    "result_overflow_mode": "break",
    "cancel_http_readonly_queries_on_client_close": "1",
}
# Errors are to surface in the statement that makes them, not later in a table of the system's.
_WRITING: Final = {**_FORMATS, "mutations_sync": "1", "async_insert": "0"}
_LIMITS: Final = ("max_execution_time", "max_result_rows")
_KNOWN: Final = "SELECT name, value, readonly FROM system.settings WHERE has(:names, name)"
_MAY_REACH: Final = "CHECK GRANT CREATE TEMPORARY TABLE ON *.*"
_STOP: Final = "KILL QUERY WHERE query_id = {id:String} ASYNC"
# The SETTINGS of a subquery are not held to `readonly`, so none may be there. Where releases of
# ClickHouse differ about what is a quote, a name or a comment, the word alone is refused.
_SETTINGS: Final = re.compile(
    r"(?<!\w)settings\b\s*(?:''|\w)[\w']*(?:\s*\.\s*[\w']+)*\s*[=,]", re.IGNORECASE
)
_SETTINGS_WORD: Final = re.compile(r"\bsettings\b", re.IGNORECASE)
_NESTED: Final = re.compile(r"/\*(?:(?!\*/).)*?/\*", re.DOTALL)
_UNCOUNTED: Final = frozenset(["alter", "delete", "update"])


async def open_database(target: DatabaseTarget) -> "ClickHouseDatabase":
    """A client that has been answered once.

    Raises:
        UnreachableError: It was not.
    """
    database = ClickHouseDatabase(target)
    try:
        await database.begin()
    except StatementError as error:
        await database.aclose()
        raise UnreachableError(out_of_reach(target, error.message)) from error
    except BaseException:
        await database.aclose()
        raise
    return database


class ClickHouseDatabase:
    """HTTP connections to one server. There are no sessions: each statement stands alone."""

    def __init__(self, target: DatabaseTarget) -> None:
        self._target = target
        self._client = _client(target)
        self._slots = asyncio.Semaphore(target.max_pool_size)
        self._settable: frozenset[str] = frozenset()
        self._level = "0"

    async def begin(self) -> None:
        """Ask which settings this user may choose.

        Raises:
            DatabaseError: The server cannot be asked.
        """
        names = [*(_READING | _WRITING), *_LIMITS]
        statement = Statement(_KNOWN, {"names": names})
        found = await self._run(statement, {}, Limits(rows=100, seconds=_CONNECT_SECONDS))
        self._level = next((str(row[1]) for row in found.rows if row[0] == "readonly"), "0")
        # At level 1 nothing can be set. Older servers do not say so of each setting.
        if self._level != "1":
            self._settable = frozenset(row[0] for row in found.rows if not row[2])

    @property
    def catalog(self) -> Catalog:
        """Statements over the `system` tables."""
        return catalog_of(self._target.database)

    async def check(self, limits: Limits) -> str | None:
        """Whether the user could reach other servers from a statement that reads."""
        try:
            found = await self._run(Statement(_MAY_REACH), {}, limits)
        except StatementError:
            # Older servers cannot be asked.
            found = Result()
        if found.rows and found.rows[0][0]:
            return (
                "This user may use table functions such as url() and s3(), which reach other "
                "servers. A user that holds no more than SELECT is safer."
            )
        return None

    async def read(self, statement: Statement, limits: Limits) -> Result:
        """One statement under `readonly = 1`, of which no more rows are read than are wanted."""
        if self._level == "0" and "readonly" not in self._settable:
            raise StatementError(
                "Nothing can be read: the server does not let this user choose `readonly`, which "
                "is what keeps a read from changing anything."
            )
        _check_reads(statement.sql)
        wanted = _READING | {"max_result_rows": str(limits.rows + 1)}
        return await self._run(statement, wanted, limits)

    async def write(self, statements: Sequence[Statement], limits: Limits) -> Result:
        """One after another: ClickHouse has no transactions. The last one's rows and count."""
        check_writable(self._target)
        for statement in statements:
            check_single(parse(statement.sql, "clickhouse"))
        result = Result()
        loop = asyncio.get_running_loop()
        end = loop.time() + limits.seconds
        for statement in statements:
            left = Limits(rows=limits.rows, seconds=max(end - loop.time(), 0.001))
            result = await self._run(statement, _WRITING, left, is_change=True)
        return result

    async def aclose(self) -> None:
        """Close at once: what still runs is cut off."""
        await self._client.aclose()

    async def _run(
        self,
        statement: Statement,
        wanted: Mapping[str, str],
        limits: Limits,
        *,
        is_change: bool = False,
    ) -> Result:
        parsed = parse(statement.sql, "clickhouse")
        check_single(parsed)
        sql, parameters = bound(parsed, statement.parameters)
        asked = {name: value for name, value in wanted.items() if name in self._settable}
        if "max_execution_time" in self._settable:
            asked["max_execution_time"] = f"{limits.seconds:g}"
        if is_change:
            # The status tells of errors, and the summary is complete.
            asked["wait_end_of_query"] = "1"
        async with self._answer(sql, parameters, asked, limits) as response:
            columns, rows = await read_rows(response, limits.rows + 1)
            affected = None
            if is_change and parsed.words[0] not in _UNCOUNTED:
                affected = _written(response)
        is_cut = len(rows) > limits.rows
        return Result(columns=columns, rows=rows[: limits.rows], affected=affected, is_cut=is_cut)

    @asynccontextmanager
    async def _answer(
        self,
        sql: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        limits: Limits,
    ) -> AsyncIterator[httpx.Response]:
        """What the server begins to answer. The time limit covers waiting for a connection, too.

        A statement whose caller left, or whose limit passed, is stopped on the server.
        """
        query_id = f"sinas-{uuid4()}"
        asking = {"default_format": FORMAT, "query_id": query_id, **settings}
        is_sent = False
        try:
            async with asyncio.timeout(limits.seconds + _GRACE_SECONDS), self._slots:
                is_sent = True
                async with self._post(sql, parameters, asking) as response:
                    await check_begun(response)
                    yield response
        except TimeoutError as error:
            if is_sent:
                await self._stop(query_id)
            raise timed_out(limits) from error
        except asyncio.CancelledError:
            if is_sent:
                # Shielded: a caller who left must not leave the statement behind.
                await asyncio.shield(self._stop(query_id))
            raise
        except AnswerError as error:
            raise translated(error, self._target, limits) from error
        except UnreachableError as error:
            raise UnreachableError(out_of_reach(self._target, error.message)) from error
        except (httpx.HTTPError, OSError) as error:
            raise UnreachableError(out_of_reach(self._target, _told(error))) from error

    @asynccontextmanager
    async def _post(
        self, sql: str, parameters: Mapping[str, str], asking: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """Parameters go as fields of a form: an address would be too short for long ones."""
        if self._client.is_closed:
            raise UnreachableError("the connection was closed")
        fields = {"query": sql} | {f"param_{name}": text for name, text in parameters.items()}
        async with self._client.stream(
            "POST",
            "/",
            params={"database": self._target.database, **asking},
            files={name: (None, text.encode()) for name, text in fields.items()},
        ) as response:
            yield response

    async def _stop(self, query_id: str) -> None:
        """Tell the server to stop a statement, whose connection is closed already."""
        with suppress(DatabaseError, AnswerError, httpx.HTTPError, OSError):
            async with (
                asyncio.timeout(_STOP_SECONDS),
                self._post(_STOP, {"id": query_id}, {}) as response,
            ):
                await check_begun(response)


def _client(target: DatabaseTarget) -> httpx.AsyncClient:
    is_tls = target.ssl_mode in ("require", "verify-ca", "verify-full") or (
        target.ssl_mode != "disable" and target.port in _TLS_PORTS
    )
    return httpx.AsyncClient(
        base_url=httpx.URL(
            scheme="https" if is_tls else "http", host=target.host, port=target.port
        ),
        # In a header of its own kind the password could not have every character.
        auth=httpx.BasicAuth(target.username, target.password or ""),
        headers={"User-Agent": "sinas", "Accept-Encoding": "identity"},
        verify=context_for(target) if is_tls else False,
        # No proxy or certificates from the environment, and no way to another server.
        trust_env=False,
        follow_redirects=False,
        # How long a statement takes is limited elsewhere, and so is their number: one more
        # connection for each is there to stop it.
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        limits=httpx.Limits(
            max_connections=2 * target.max_pool_size,
            max_keepalive_connections=target.max_pool_size,
            keepalive_expiry=_IDLE_SECONDS,
        ),
    )


def _check_reads(sql: str) -> None:
    """Refuse what `readonly = 1` lets through although it reaches elsewhere.

    Raises:
        ReadOnlyError: It does.
    """
    if _NESTED.search(sql):
        raise ReadOnlyError("A statement that reads cannot have a comment inside a comment.")
    first = parse(sql, "clickhouse").words[0]
    if first == "backup":
        raise ReadOnlyError("BACKUP writes elsewhere: this only reads.")
    text = bare(sql, "clickhouse")
    is_plain = sql.isascii() and "$" not in sql
    if _SETTINGS.search(text) if is_plain else _SETTINGS_WORD.search(sql):
        raise ReadOnlyError(
            "SETTINGS cannot be chosen by a statement that reads; leave it out. (Beside letters "
            "beyond ASCII or a '$', the word itself must not be there.)"
        )
    if first in ("describe", "desc") and "(" in text:
        raise ReadOnlyError(
            "DESCRIBE of a function makes the server fetch what it names; describe a table."
        )


def _written(response: httpx.Response) -> int:
    """Rows that were inserted, those of materialized views included."""
    try:
        summary = json.loads(response.headers.get("x-clickhouse-summary", "{}"))
        return int(summary.get("written_rows", 0))
    except (ValueError, AttributeError):
        return 0


def _told(error: BaseException) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no answer within {_CONNECT_SECONDS:g} s"
    return str(error).strip() or type(error).__name__
