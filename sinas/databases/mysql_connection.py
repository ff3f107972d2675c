"""One connection to MySQL or MariaDB: aiomysql's, with what it lacks to be trusted to a stranger.

aiomysql falls back to plain text where the server (or who sits between) says it has no TLS, sends
a password in clear text when asked to, takes answers of any size, and always asks for several
statements in one text. Here each of these is off. Some of it is done by overriding methods that
aiomysql does not call public; the tests against a real and a hostile server notice if they change.
"""

import asyncio
import os
import ssl
import struct
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import aiomysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.err import InterfaceError, MySQLError, OperationalError
from typing_extensions import override

from sinas.databases.base import DatabaseTarget, UnreachableError
from sinas.databases.mysql_values import DECODERS
from sinas.databases.told import MAX_RESULT_BYTES, out_of_reach

T = TypeVar("T")

_CONNECT_SECONDS: Final = 10.0
_END_SECONDS: Final = 0.2
_GREETING_BYTES: Final = 2**20
_RESET_CONNECTION: Final = 0x1F
# With them, a server learns the password itself.
_CLEAR: Final = frozenset({"mysql_clear_password", "mysql_old_password"})
_ENCRYPTED: Final = frozenset({"require", "verify-ca", "verify-full"})
_FACTS: Final = (
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('pseudo_thread_id', 'hostname', 'server_uuid', "
    "'version', 'max_statement_time', 'max_execution_time')"
)
# What aiomysql raises for bytes that are no answer of a MySQL server, or for a file it is asked
# for: LOCAL INFILE is off.
_NOT_UNDERSTOOD: Final = (
    struct.error,
    IndexError,
    KeyError,
    AssertionError,
    AttributeError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ResultTooLargeError(InterfaceError):  # type: ignore[misc]
    """The answer is larger than was allowed; the rest of it was not read."""


class _Cursor(aiomysql.SSCursor):  # type: ignore[misc]
    """Rows as they come, and nothing else."""

    @override
    async def _show_warnings(self, conn: Any) -> None:
        # aiomysql would ask the server for them and print them: they quote data.
        pass


class Connection(aiomysql.Connection):  # type: ignore[misc]
    """A connection of one task at a time.

    Attributes:
        facts: Variables of the server: who it is, and how it limits time.
        number: By which it can be told to stop.
        is_running: A statement was sent and not all of its answer was read. After an error of the
            server's none is: what still runs then was given up by us, and goes on there.
    """

    def __init__(self, target: DatabaseTarget, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            host=target.host,
            port=target.port,
            user=target.username,
            # aiomysql sends it as Latin-1; servers keep the hash of the UTF-8 bytes.
            password=(target.password or "").encode().decode("latin-1"),
            db=target.database,
            charset="utf8mb4",
            conv=DECODERS,
            # Rows that match, as PostgreSQL counts them, not those with another value than before.
            client_flag=CLIENT.FOUND_ROWS,
            autocommit=None,
            ssl=tls,
            program_name="sinas",
        )
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self.facts: dict[str, str] = {}
        self.number = 0
        self.is_running = False
        self._is_cut = False
        self._needs_tls = target.ssl_mode in _ENCRYPTED
        self._allowed_bytes = _GREETING_BYTES

    async def open(self) -> None:
        """Connect, and learn who answers.

        Raises:
            MySQLError: The server refused.
            OSError: There is none.
        """
        await self._understood(self._connect())
        cursor = await self.run(_FACTS)
        self.facts = {str(name): str(value) for name, value in await self.fetched(cursor, 10)}
        self.number = int(self.facts.get("pseudo_thread_id") or self.thread_id())
        self.is_running = False

    def cut(self) -> None:
        """Close at once. Not `close`: TLS would first read what the server still sends."""
        self._is_cut = True
        if self._writer is not None:
            self._writer.transport.abort()
        self.close()

    async def gives_rows(self, sql: str) -> bool:
        """Whether a statement has a result to read, by the word of the server that parses it.

        SELECT … INTO has none, nor has CALL.

        Raises:
            MySQLError: The server refused the statement.
        """
        self._allowed_bytes = MAX_RESULT_BYTES
        self.is_running = True
        with self._stopping():
            columns = await self._understood(self._prepared_columns(sql))
        self.is_running = False
        return columns > 0

    async def run(self, sql: str) -> Any:
        """Send a statement; a cursor over its rows, which are still at the server.

        Raises:
            MySQLError: The server refused.
        """
        self._allowed_bytes = MAX_RESULT_BYTES
        self.is_running = True
        cursor = await self.cursor(_Cursor)
        with self._stopping():
            await self._understood(cursor.execute(sql))
        return cursor

    async def fetched(self, cursor: Any, count: int) -> list[tuple[Any, ...]]:
        """Up to `count` more rows. Fewer mean that there are no more.

        Raises:
            MySQLError: The statement failed meanwhile.
            ResultTooLargeError: All that was read of it is too large.
        """
        with self._stopping():
            rows: list[tuple[Any, ...]] = await self._understood(cursor.fetchmany(count))
        if len(rows) < count:
            self.is_running = False
        return rows

    async def next_set(self, cursor: Any) -> bool:
        """Go on to what a procedure gave next, if there is something."""
        self.is_running = True
        with self._stopping():
            is_more = bool(await self._understood(cursor.nextset()))
        self.is_running = False
        return is_more

    async def look_for_end(self, cursor: Any) -> None:
        """See whether a result ends here; where that is not known in a moment, it does not."""
        with suppress(TimeoutError, MySQLError):
            async with asyncio.timeout(_END_SECONDS):
                await self.fetched(cursor, 1)

    async def command(self, sql: str) -> None:
        """Run a statement of our own that has no result."""
        await self.run(sql)
        self.is_running = False

    async def reset(self) -> None:
        """Be as new, in one round trip: transaction, variables, temporary tables, locks.

        Raises:
            MySQLError: The server is too old, or gone.
        """
        self._allowed_bytes = MAX_RESULT_BYTES
        await self._understood(self._execute_command(_RESET_CONNECTION, ""))
        await self._understood(self._read_ok_packet())

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except MySQLError:
            self.is_running = self._is_cut
            raise

    async def _understood(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except _NOT_UNDERSTOOD as error:
            self.cut()
            raise InterfaceError("the server's answer is not understood") from error

    async def _prepared_columns(self, sql: str) -> int:
        await self._execute_command(COMMAND.COM_STMT_PREPARE, sql)
        answer = await self._read_packet()
        number, columns, parameters = struct.unpack("<xIHH", answer.read(9))
        for count in (parameters, columns):
            # Each list ends with a packet of its own.
            for _ in range(count + 1 if count else 0):
                await self._read_packet()
        await self._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", number))
        return int(columns)

    @override
    async def _read_bytes(self, num_bytes: int) -> bytes:
        # Before they are read: one row may have a gigabyte.
        self._allowed_bytes -= num_bytes
        if self._allowed_bytes < 0:
            self.cut()
            raise ResultTooLargeError("the server's answer is too large")
        return bytes(await super()._read_bytes(num_bytes))

    @override
    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        is_encrypted = self._ssl_context and self.server_capabilities & CLIENT.SSL
        if self._needs_tls and not is_encrypted:
            raise OperationalError(2026, "the server offers no TLS")
        if not is_encrypted:
            self._refuse_clear(self._server_auth_plugin)

    @override
    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        if not self._secure:
            self._refuse_clear(plugin_name.decode("ascii", "replace"))
        # aiomysql takes the end of the packet for a part of the salt, so that a server that has
        # seen the password before does not know it again.
        auth_packet._data = auth_packet._data.removesuffix(b"\0")
        return await super()._process_auth(plugin_name, auth_packet)

    def _refuse_clear(self, plugin: str) -> None:
        if plugin in _CLEAR:
            raise OperationalError(
                2059, f"the server asks for the password in clear text ({plugin}), without TLS"
            )


async def open_connection(target: DatabaseTarget, tls: ssl.SSLContext | None) -> Connection:
    """A connection that works.

    Raises:
        UnreachableError: It does not.
    """
    connection = Connection(target, tls)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await connection.open()
    except (MySQLError, OSError) as error:
        connection.cut()
        raise UnreachableError(unreachable(target, error)) from error
    except BaseException:
        connection.cut()
        raise
    return connection


def unreachable(target: DatabaseTarget, error: BaseException) -> str:
    """Why there is no connection, without addresses that the caller did not give."""
    return out_of_reach(target, _why(error))


def _why(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(error, MySQLError) and isinstance(cause, OSError):
        error = cause
    match error:
        case TimeoutError():
            return f"no answer within {_CONNECT_SECONDS:g} s"
        case ssl.SSLCertVerificationError():
            return f"the certificate is refused: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case OSError() if error.errno and error.errno > 0:
            return os.strerror(error.errno)
        case OSError():
            return error.strerror or "no connection"
        case _:
            return told(error)


def told(error: BaseException) -> str:
    """The server's own sentence."""
    sentence = error.args[-1] if error.args else None
    return str(sentence or type(error).__name__)
