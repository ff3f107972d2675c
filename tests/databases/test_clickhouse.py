"""The ClickHouse driver against ClickHouse's engine, and against answers written by hand."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sinas.databases.base import (
    DatabaseError,
    Limits,
    ReadOnlyError,
    Statement,
    StatementError,
    StatementTimeoutError,
    UnreachableError,
)
from sinas.databases.json_values import json_rows
from sinas.databases.opening import open_database
from tests.fixtures.configuration import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sinas.databases.base import Database, DatabaseTarget
    from tests.fixtures.clickhouse import ClickHouse

LIMITS = Limits(rows=100, seconds=10)
# Never ends by itself.
SLOW = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number), '{}')"
RUNNING = (
    "SELECT count() AS n FROM system.processes WHERE query LIKE :pattern AND query_id <> queryID()"
)


@asynccontextmanager
async def opened(target: DatabaseTarget) -> AsyncIterator[Database]:
    database = await open_database(target)
    try:
        yield database
    finally:
        await database.aclose()


@pytest.fixture
async def database(clickhouse: ClickHouse) -> AsyncIterator[Database]:
    async with opened(clickhouse.target()) as database:
        await write(
            database, "CREATE TABLE probe (a Int32, b String) ENGINE = MergeTree ORDER BY a"
        )
        yield database
        await write(database, "DROP TABLE probe")


async def write(database: Database, sql: str, **parameters: Any) -> int | None:
    return (await database.write([Statement(sql, parameters)], LIMITS)).affected


async def rows(database: Database, sql: str, **parameters: Any) -> list[Any]:
    return json_rows(await database.read(Statement(sql, parameters), LIMITS))


async def is_running(database: Database, marker: str) -> bool:
    return await rows(database, RUNNING, pattern=f"%{marker}%") != [{"n": 0}]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO probe VALUES (1, '')",
        "INSERT INTO probe SELECT 1, ''",
        "WITH x AS (SELECT 1) INSERT INTO probe SELECT *, '' FROM x",
        "ALTER TABLE probe UPDATE b = 'x' WHERE 1",
        "DELETE FROM probe WHERE 1",
        "TRUNCATE TABLE probe",
        "DROP TABLE probe",
        "RENAME TABLE probe TO gone",
        "OPTIMIZE TABLE probe",
        "CREATE TABLE other (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE other (a Int8)",
        "CREATE FUNCTION f AS (a) -> a",
        "SYSTEM STOP MERGES probe",
        "BACKUP TABLE probe TO Memory('x')",
        "INSERT INTO probe SELECT 1, '' SETTINGS readonly = 0",
        "SET readonly = 0",
        "SELECT 1; INSERT INTO probe VALUES (1, '')",
    ],
)
async def test_a_read_changes_nothing(database: Database, sql: str) -> None:
    await write(database, "INSERT INTO probe VALUES (7, 'seven')")
    with pytest.raises(StatementError):
        await database.read(Statement(sql), LIMITS)
    assert await rows(database, "SELECT * FROM probe") == [{"a": 7, "b": "seven"}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {}",
        "SELECT * FROM (SELECT * FROM {} SETTINGS readonly = 0)",
        "SELECT * FROM (SELECT * FROM {} SETTINGS max_threads = 1, readonly = 0)",
        "SELECT * FROM (SELECT * FROM {} settings/**/`readonly`=0)",
        "SELECT * FROM (SELECT * FROM {} SETTINGS`read\\x6fnly` = 0)",
        "SELECT * FROM (SELECT * FROM {} SETTINGS\u200breadonly = 0)",
        "SELECT \u2018'\u2019, * FROM (SELECT * FROM {} SETTINGS readonly = 0) WHERE \u2018'\u2019 != ''",
        "SELECT 1 AS $a$, * FROM (SELECT * FROM {} SETTINGS readonly = 0)",
        "SELECT * FROM (SELECT * FROM {} // '\n SETTINGS readonly = 0) // '",
        "SELECT * FROM (SELECT * FROM {} /* /* */ ' */ SETTINGS readonly = 0) /* ' */",
        "WITH x AS (SELECT * FROM {} SETTINGS profile = 'default') SELECT * FROM x",
        "SELECT (SELECT count() FROM {} SETTINGS readonly = 0)",
        "EXPLAIN SELECT * FROM {}",
        "DESCRIBE TABLE {}",
        "desc/* a */{}",
        "BACKUP TABLE probe TO S3('{address}', 'a', 'b')",
    ],
)
async def test_a_read_reaches_no_other_server(database: Database, sql: str) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\na\n1\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/abc/x.csv"
        function = f"url('{address}', 'CSVWithNames')"
        with pytest.raises(ReadOnlyError):
            await rows(database, sql.replace("{address}", address).replace("{}", function))
        assert asked == 0
        # The engine would: it is the read that keeps it from that.
        await write(database, f"DESCRIBE {function}")
        assert asked > 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM system.settings WHERE name = 'readonly'",
        "SELECT 'User settings a = 1', 'http://x/*'",
        "SELECT settings.name = 'x', 1 FROM system.settings AS settings LIMIT 0",
        "SELECT 1 AS settings WHERE settings = 1 AND settings != 2",
        "SELECT 'SETTINGS readonly = 0' -- SETTINGS readonly = 0",
        "DESCRIBE TABLE system.one",
        "SHOW TABLES",
        "EXISTS TABLE probe",
        "EXPLAIN SELECT 1",
        "(SELECT 1)",
        "FROM system.one SELECT dummy",
    ],
)
async def test_what_only_looks_like_it_is_read(database: Database, sql: str) -> None:
    assert await rows(database, sql) is not None


async def test_values_are_never_text_of_the_statement(database: Database) -> None:
    evil = "x'); DROP TABLE probe; --\\'\t\n\0é"
    await write(database, "INSERT INTO probe VALUES (:a, :b)", a=1, b=evil)
    found = await rows(database, "SELECT b FROM probe WHERE b = :b AND b <> ':b'", b=evil)
    assert found == [{"b": evil}]


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        (None, "Nullable(Nothing)", None),
        (True, "Bool", True),
        (-5, "Int64", -5),
        (2**63, "UInt64", 2**63),
        (2**64, "Int128", str(2**64)),
        (1.5, "Float64", 1.5),
        ("\\N", "String", "\\N"),
        ([], "Array(Nothing)", []),
        ([1, 2.5], "Array(Float64)", [1.0, 2.5]),
        ([1, None], "Array(Nullable(Int64))", [1, None]),
        (["it's", "\\", "\t", "a,]"], "Array(String)", ["it's", "\\", "\t", "a,]"]),
        ([[1], [2, 3]], "Array(Array(Int64))", [[1], [2, 3]]),
        ({"a": [1, "é\n"]}, "String", '{"a": [1, "é\\n"]}'),
    ],
)
async def test_a_value_says_its_type(
    database: Database, given: Any, kind: str, expected: Any
) -> None:
    found = await rows(database, "SELECT :v AS v, toTypeName(:v) AS kind", v=given)
    assert found == [{"v": expected, "kind": kind}]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("UInt8", 7, 7),
        ("Nullable(Int8)", None, None),
        ("Decimal(10, 2)", "1.50", "1.50"),
        ("Date", "2024-02-29", "2024-02-29"),
        ("DateTime('UTC')", "2024-02-29 12:30:00", "2024-02-29T12:30:00+00:00"),
        ("Array(Date)", ["2024-02-29"], ["2024-02-29"]),
        ("Map(String, UInt8)", {"a'": 1}, {"a'": 1}),
        ("Tuple(UInt8, String)", [1, "x"], [1, "x"]),
        ("Tuple(n UInt8, s String)", {"n": 1, "s": "x"}, {"n": 1, "s": "x"}),
        ("JSON", {"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}),
        ("String", [1, "x"], '[1, "x"]'),
        ("UUID", "7d444840-9dc0-11d1-b245-5ffdce74fad2", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
    ],
)
async def test_a_type_can_be_written(
    database: Database, kind: str, given: Any, expected: Any
) -> None:
    assert await rows(database, f"SELECT {{ v : {kind} }} AS v", v=given) == [{"v": expected}]


async def test_a_name_can_be_a_parameter(database: Database) -> None:
    assert await rows(database, "SELECT count() AS n FROM {t:Identifier}", t="probe") == [{"n": 0}]


async def test_a_value_may_be_long(database: Database) -> None:
    found = await rows(database, "SELECT length(:v) AS n", v="x" * 100_000)
    assert found == [{"n": 100_000}]


@pytest.mark.parametrize(
    ("sql", "given", "message"),
    [
        ("SELECT {v:UInt8}", "seven", "'v'"),
        ("SELECT {v:UInt8}", None, "'v'"),
        ("SELECT {v:Date}", "tomorrow", "'v'"),
        ("SELECT :v", [1, "x"], "'v'.*Int64, String"),
        ("SELECT :v", 2**200, "'v'"),
        ("SELECT :v", "\ud800", "'v'"),
        ("SELECT :v::UInt8", None, "non-nullable"),
        ("SELECT nothing", None, "nothing"),
        ("SELEC", None, "SELEC"),
        ("SELECT 1 FORMAT CSV", None, "FORMAT"),
    ],
)
async def test_a_mistake_is_the_callers(
    database: Database, sql: str, given: Any, message: str
) -> None:
    with pytest.raises(StatementError, match=message):
        await rows(database, sql, v=given)
    assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("18446744073709551615", 18446744073709551615),
        ("toInt64(-9223372036854775808)", -9223372036854775808),
        ("toDecimal64('1.50', 2)", "1.50"),
        ("1 / 0", "Infinity"),
        ("-1 / 0", "-Infinity"),
        ("0 / 0", "NaN"),
        ("toFloat32(0.1)", 0.1),
        ("true", True),
        ("NULL", None),
        ("toDate('2024-02-29')", "2024-02-29"),
        ("toDateTime('2024-02-29 12:30:00', 'Europe/Berlin')", "2024-02-29T11:30:00+00:00"),
        ("toDateTime64('2024-02-29 12:30:00.123', 3, 'UTC')", "2024-02-29T12:30:00.123+00:00"),
        ("toUUID('7d444840-9dc0-11d1-b245-5ffdce74fad2')", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ("toIPv4('10.0.0.1')", "10.0.0.1"),
        ("CAST('b', 'Enum8(\\'a(,\\' = 1, \\'b\\' = 2)')", "b"),
        ("toLowCardinality('x')", "x"),
        ("[1, NULL]", [1, None]),
        ("[toDecimal32('1.5', 1)]", ["1.5"]),
        ("map('a', toDecimal32('1.5', 1))", {"a": "1.5"}),
        ("map(1, 2)", {"1": 2}),
        ("(1, toDecimal32('1.5', 1), 'x')", [1, "1.5", "x"]),
        ("CAST((1, 0.5), 'Tuple(n Int8, `odd name` Float64)')", {"n": 1, "odd name": 0.5}),
        ("[(1, (2, 'a'))]", [[1, [2, "a"]]]),
        ("""'{"a": {"b": 1.5}, "c": [1, 2]}'::JSON""", {"a": {"b": 1.5}, "c": [1, 2]}),
        ("INTERVAL 2 DAY", 2),
        ("unhex('41FF')", "A�"),
    ],
)
async def test_results_as_json(database: Database, sql: str, expected: Any) -> None:
    assert await rows(database, f"SELECT {sql} AS value") == [{"value": expected}]


async def test_columns_of_one_name_are_told_apart(database: Database) -> None:
    assert await rows(database, "SELECT a, a FROM (SELECT 1 AS a)") == [{"a": 1, "a_2": 1}]


async def test_the_columns_of_no_rows(database: Database) -> None:
    found = await database.read(Statement("SELECT * FROM probe"), LIMITS)
    assert (found.columns, found.rows, found.is_cut) == (("a", "b"), [], False)


async def test_no_more_rows_than_wanted(database: Database) -> None:
    sql = "SELECT number, 'LIMIT' AS word FROM system.numbers"
    found = await database.read(Statement(sql), Limits(rows=3, seconds=5))
    assert ([row[0] for row in found.rows], found.is_cut) == ([0, 1, 2], True)


async def test_a_result_too_large_is_given_up(database: Database) -> None:
    sql = "SELECT repeat('x', 1000) FROM numbers(100000)"
    with pytest.raises(StatementError, match="larger than"):
        await database.read(Statement(sql), Limits(rows=100_000, seconds=20))


async def test_the_server_keeps_the_time_limit(database: Database) -> None:
    with pytest.raises(StatementTimeoutError, match=r"longer than 0\.2 s"):
        await database.read(Statement(SLOW.format("kept")), Limits(seconds=0.2))
    async with asyncio.timeout(10):
        while await is_running(database, "kept"):
            await asyncio.sleep(0.02)


async def test_a_user_who_can_set_nothing_is_stopped(
    clickhouse: ClickHouse, database: Database
) -> None:
    """As the readonly profile of ClickHouse's own configuration has it."""
    async with opened(clickhouse.target(username="limited")) as limited:
        assert await limited.check(LIMITS) is None
        found = await limited.read(Statement("SELECT toDecimal32('1.50', 2), 1.5, now()"), LIMITS)
        assert found.rows[0][:2] == ("1.5", 1.5)
        with pytest.raises(ReadOnlyError):
            await write(limited, "INSERT INTO probe VALUES (1, '')")
        with pytest.raises(StatementTimeoutError):
            await limited.read(Statement(SLOW.format("unlimited")), Limits(seconds=0.1))
        async with asyncio.timeout(10):
            while await is_running(database, "unlimited"):
                await asyncio.sleep(0.01)


async def test_a_cancelled_read_stops_on_the_server(database: Database) -> None:
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        task = group.create_task(database.read(Statement(SLOW.format("left")), LIMITS))
        while not await is_running(database, "left"):
            await asyncio.sleep(0.01)
        task.cancel()
        while await is_running(database, "left"):
            await asyncio.sleep(0.01)


async def test_changes_are_counted_and_their_errors_told(database: Database) -> None:
    assert await write(database, "INSERT INTO probe SELECT number, '' FROM numbers(5)") == 5
    assert await write(database, "INSERT INTO probe VALUES (:a, 'x'), (6, 'y')", a=5) == 2
    # ClickHouse does not say how many rows these find.
    assert await write(database, "DELETE FROM probe WHERE a < 3") is None
    assert await write(database, "ALTER TABLE probe UPDATE b = 'z' WHERE a = 5") is None
    found = await rows(database, "SELECT a, b FROM probe WHERE a > 3 ORDER BY a")
    assert found == [{"a": 4, "b": ""}, {"a": 5, "b": "z"}, {"a": 6, "b": "y"}]
    with pytest.raises(StatementError):
        await write(database, "ALTER TABLE probe UPDATE b = throwIf(1)::String WHERE 1")


async def test_statements_of_one_write_follow_each_other(database: Database) -> None:
    """There are no transactions: those before the one that fails stay done."""
    statements = [
        Statement("INSERT INTO probe VALUES (1, '')"),
        Statement("INSERT INTO nowhere VALUES (1)"),
        Statement("INSERT INTO probe VALUES (2, '')"),
    ]
    with pytest.raises(StatementError, match="nowhere"):
        await database.write(statements, LIMITS)
    assert await rows(database, "SELECT a FROM probe") == [{"a": 1}]
    with pytest.raises(StatementError, match="Only one"):
        await database.write([*statements[:1], Statement("SELECT 1; SELECT 2")], LIMITS)
    assert await rows(database, "SELECT a FROM probe") == [{"a": 1}]


async def test_a_read_only_connection_writes_nothing(clickhouse: ClickHouse) -> None:
    async with opened(clickhouse.target(read_only=True)) as database:
        with pytest.raises(ReadOnlyError, match="events"):
            await write(database, "CREATE TABLE never (a Int8) ENGINE = Memory")


async def test_a_pool_that_is_full_does_not_wait_for_ever(clickhouse: ClickHouse) -> None:
    async with (
        opened(clickhouse.target(max_pool_size=1)) as database,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(database.read(Statement(SLOW.format("full")), LIMITS))
        await asyncio.sleep(0.1)
        with pytest.raises(StatementTimeoutError):
            await database.read(Statement("SELECT 1"), Limits(seconds=0.01))
        task.cancel()


async def test_a_user_who_may_reach_other_servers_is_told(
    clickhouse: ClickHouse, database: Database
) -> None:
    assert "url()" in str(await database.check(LIMITS))


@pytest.mark.parametrize("mode", ["require", "verify-full", "verify-ca"])
async def test_tls(clickhouse: ClickHouse, mode: str) -> None:
    options = () if mode == "require" else (("ssl_ca", clickhouse.authority),)
    target = clickhouse.target(port=clickhouse.tls_port, ssl_mode=mode, options=options)
    async with opened(target) as database:
        assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize(
    "changes",
    [
        {"database": "nowhere"},
        {"username": "nobody"},
        {"password": "hunter3"},
        {"password": None},
        {"port": 1},
        {"ssl_mode": "require"},
        {"ssl_mode": "verify-full", "options": (("ssl_ca", "x"),)},
    ],
)
async def test_what_cannot_be_reached_says_so(
    clickhouse: ClickHouse, changes: dict[str, Any]
) -> None:
    with pytest.raises(UnreachableError) as caught:
        await open_database(clickhouse.target(**changes))
    assert "hunter" not in caught.value.message


async def test_an_unknown_authority_is_refused(clickhouse: ClickHouse) -> None:
    target = clickhouse.target(port=clickhouse.tls_port, ssl_mode="verify-full")
    with pytest.raises(UnreachableError, match="certificate"):
        await open_database(target)


async def test_what_is_closed_says_so(clickhouse: ClickHouse) -> None:
    database = await open_database(clickhouse.target())
    await database.aclose()
    with pytest.raises(UnreachableError, match="closed"):
        await rows(database, "SELECT 1")


HEAD = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: q\r\nTransfer-Encoding: chunked\r\n\r\n"
NAMES = b'["a"]\n["Int64"]\n'
KNOWN = b'["name","value","readonly"]\n["String","String","UInt8"]\n'
THROWN = b"Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED) (version 22.8)"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (HEAD + chunk(NAMES + b"[1]\n" + THROWN) + chunk(b""), StatementError, "^Memory limit"),
        (HEAD + chunk(NAMES + b"[1]\n[2" + THROWN) + chunk(b""), StatementError, "^Memory limit"),
        (HEAD + chunk(THROWN) + chunk(b""), StatementError, "^Memory limit exceeded. "),
        (HEAD + chunk(NAMES + b"[1]\n[2") + chunk(b""), UnreachableError, "broke off"),
        (HEAD + chunk(NAMES + b"[1]\n[2"), UnreachableError, "broke off"),
        (HEAD + chunk(NAMES + b"[1]\n"), UnreachableError, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", UnreachableError, "not ClickHouse"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            UnreachableError,
            "302",
        ),
        (
            # Where the level cannot be chosen, nothing keeps a read from changing something.
            HEAD + chunk(KNOWN + b'["readonly","0",1]\n') + chunk(b""),
            StatementError,
            "choose `readonly`",
        ),
        (
            HEAD + chunk(b'["a"]\n["DateTime"]\n[1709209800]\nCode: 1. x') + chunk(b""),
            StatementError,
            "^x$",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", UnreachableError, "cannot be reached"),
        (b"", UnreachableError, "cannot be reached"),
        (
            b"HTTP/1.1 500 Oh\r\nX-ClickHouse-Exception-Code: 202\r\nContent-Length: 5\r\n\r\nbusy\n",
            UnreachableError,
            "busy",
        ),
    ],
)
async def test_answers_that_are_none(
    clickhouse: ClickHouse, answer: bytes, kind: type[DatabaseError], message: str
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        if b"system.settings" in body and kind is StatementError and KNOWN not in answer:
            writer.write(HEAD + chunk(KNOWN + b'["readonly","0",0]\n') + chunk(b""))
        else:
            writer.write(answer)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(respond, "127.0.0.1", port):
        with pytest.raises(kind, match=message) as caught:
            async with opened(clickhouse.target(port=port)) as database:
                await rows(database, "SELECT 1")
    assert "hunter2" not in caught.value.message
