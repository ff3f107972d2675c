"""The MySQL driver against a real MariaDB, whose own settings are as unusual as can be."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.databases.base import (
    Limits,
    ReadOnlyError,
    Statement,
    StatementError,
    StatementTimeoutError,
    UnreachableError,
)
from sinas.databases.json_values import json_rows
from sinas.databases.mysql_values import literal
from sinas.databases.opening import open_database
from tests.support.mariadb import PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sinas.databases.base import Database, Result
    from tests.support.mariadb import MariaDB

pytestmark = pytest.mark.mariadb

LIMITS = Limits(rows=100, seconds=10)
# Not SLEEP: that looks every few seconds whether its client is still there.
_ENDLESS = "BENCHMARK(1000000000000, MD5('x'))"


@asynccontextmanager
async def opened(server: MariaDB, **changes: Any) -> AsyncIterator[Database]:
    database = await open_database(server.target(**changes))
    try:
        yield database
    finally:
        await database.aclose()


@pytest.fixture
async def database(mariadb: MariaDB) -> AsyncIterator[Database]:
    async with opened(mariadb) as database:
        await write(
            database,
            "CREATE OR REPLACE TABLE probe (a int, b varchar(200) CHARACTER SET utf8mb4)",
            "CREATE OR REPLACE TABLE plain (a int) ENGINE = MyISAM",
        )
        yield database


async def write(database: Database, *texts: str, **parameters: Any) -> Result:
    return await database.write([Statement(text, parameters) for text in texts], LIMITS)


async def rows(database: Database, sql: str, **parameters: Any) -> list[Any]:
    return json_rows(await database.read(Statement(sql, parameters), LIMITS))


async def value(database: Database, sql: str, **parameters: Any) -> Any:
    [row] = await rows(database, f"SELECT {sql} AS value", **parameters)
    return row["value"]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO probe VALUES (1, 'x')",
        "INSERT INTO plain VALUES (1)",
        "INSERT INTO probe VALUES (1, 'x') RETURNING a",
        "ANALYZE INSERT INTO probe VALUES (1, 'x')",
        "SELECT changes()",
        "SELECT changes_plain()",
        "EXPLAIN EXTENDED SELECT changes()",
        # These the transaction itself lets pass, in MariaDB.
        "CREATE TABLE other (a int)",
        "CREATE TEMPORARY TABLE other (a int)",
        "TRUNCATE probe",
        "DROP TABLE probe",
        "ANALYZE TABLE probe",
        "CALL writes()",
        "/*!CALL writes() -- */ SELECT 1\n*/",
        "/*!99999 SELECT */ CALL writes()",
        "--\rSELECT\nCALL writes()",
        "SHOW; CALL writes()",
        "SELECT 1 INTO @here",
        "SELECT 1 INTO OUTFILE '{file}'",
        "WITH x AS (SELECT 1) SELECT * FROM x INTO DUMPFILE '{file}'",
        "BEGIN NOT ATOMIC COMMIT; INSERT INTO probe VALUES (1, 'x'); END",
        "SET STATEMENT max_statement_time = 0 FOR CALL writes()",
        "EXECUTE IMMEDIATE 'CALL writes()'",
        "SET SESSION TRANSACTION READ WRITE",
        "COMMIT",
        "DO changes()",
        "SELECT 1; INSERT INTO probe VALUES (1, 'x')",
        "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE probe",
    ],
)
async def test_a_read_changes_nothing(
    mariadb: MariaDB, database: Database, tmp_path: Path, sql: str
) -> None:
    file = tmp_path / "written"
    async with opened(mariadb, username="mighty") as mighty:
        with pytest.raises(StatementError):
            await mighty.read(Statement(sql.replace("{file}", str(file))), LIMITS)
    assert not file.exists()
    count = "(SELECT count(*) FROM probe) + (SELECT count(*) FROM plain)"
    assert await value(database, count) == 0
    tables = await rows(database, database.catalog.tables, schema="shop")
    assert {row["table_name"] for row in tables} >= {"probe", "plain"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1), (2)",
        "SHOW TABLES",
        "# listed\nSHOW TABLES",
        "DESCRIBE probe",
        "EXPLAIN SELECT * FROM probe",
    ],
)
async def test_what_only_reads(database: Database, sql: str) -> None:
    assert (await database.read(Statement(sql), LIMITS)).columns


async def test_nothing_outlives_its_statement(mariadb: MariaDB) -> None:
    """Variables, locks, temporary tables: the next user of the connection finds none of them."""
    async with opened(mariadb, max_pool_size=1) as database:
        [before] = await rows(database, "SELECT CONNECTION_ID() AS id")
        await rows(database, "SELECT @mine := 7, GET_LOCK('sinas-test', 0)")
        await write(
            database,
            "CREATE TEMPORARY TABLE probe_left (a int)",
            "DO GET_LOCK('sinas-left', 0)",
            "SELECT 9 INTO @also",
        )
        [after] = await rows(
            database,
            "SELECT CONNECTION_ID() AS id, @mine AS mine, @also AS also, "
            "IS_USED_LOCK('sinas-test') AS taken, IS_USED_LOCK('sinas-left') AS kept",
        )
        assert after == before | {"mine": None, "also": None, "taken": None, "kept": None}
        with pytest.raises(StatementError, match="doesn't exist"):
            await rows(database, "SELECT * FROM probe_left")


EVIL = [
    "x'); DROP TABLE probe; -- ",
    "\\",
    "\\'; DROP TABLE probe; -- ",
    'say "hi" OR 1=1 #',
    "`b`",
    "\x00\x1a\n\r\t",
    "%s %(a)s 100% {} $1 ? :b",
    "\u00bf' OR 1=1 -- ",
    "\u5927\u5c0f \U0001f99c \u00bf\u005c'",
    "0x61",
    "*/ ; /*! DROP TABLE probe */",
    "",
]


@pytest.mark.parametrize("evil", EVIL, ids=map(str, range(len(EVIL))))
async def test_values_are_never_text_of_the_statement(database: Database, evil: str) -> None:
    await write(database, "INSERT INTO probe (b) VALUES (:b)", b=evil)
    assert await rows(
        database, "SELECT b, ':b' AS t, ' %s %' AS p FROM probe WHERE b = :b", b=evil
    ) == [{"b": evil, "t": ":b", "p": " %s %"}]


async def test_a_value_in_a_wrong_place_stays_digits(database: Database) -> None:
    """Where our parser and the server's differ, as they might."""
    evil = "' OR 1 = 1 -- "
    connection = "SELECT '%s' AS text"
    for wrong in (literal("v", evil), f"' {literal('v', evil)} '"):
        assert "OR" not in str(await refused(database, connection % wrong))


async def refused(database: Database, sql: str) -> str:
    with pytest.raises(StatementError) as raised:
        await rows(database, sql)
    return str(raised.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (True, 1),
        (7, 7),
        (-7, -7),
        (2**63, 2**63),
        (10**30, str(10**30)),
        (1.5, 1.5),
        (-1e300, -1e300),
        ("7", "7"),
        ({"a": [1, None, "ä'\\"]}, '{"a": [1, null, "ä\'\\\\"]}'),
        ([], "[]"),
        (b"\x00'\xff", "0027ff"),
    ],
    ids=str,
)
async def test_values_of_parameters(database: Database, given: Any, expected: Any) -> None:
    assert await value(database, ":v", v=given) == expected


async def test_numbers_keep_their_sign_beside_others(database: Database) -> None:
    assert await value(database, "5-:v", v=-3) == 8
    assert await value(database, "5--:v", v=-3) == 2
    assert await value(database, ":v MOD 4", v=7) == 3
    assert len(await rows(database, "VALUES (1), (2), (3) LIMIT :n", n=2)) == 2


@pytest.mark.parametrize(
    "given",
    [float("nan"), float("inf"), 10**65, 10**5000, "\ud800", {"a": float("nan")}, {"a": "\udc00"}],
    ids=map(str, range(7)),
)
async def test_a_value_that_is_none_is_the_callers_mistake(database: Database, given: Any) -> None:
    with pytest.raises(StatementError, match="':v'"):
        await value(database, ":v", v=given)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", "seven"),
        ("int", 2**40),
        ("int", {"a": 1}),
        ("varchar(3)", "four"),
        ("date", "tomorrow"),
        ("date", "2024-02-30"),
        ("json", "no json"),
        ("enum('x')", "y"),
        ("int not null", None),
    ],
)
async def test_a_value_that_does_not_fit_is_refused(
    database: Database, kind: str, given: Any
) -> None:
    """Whatever the server's own mode, which here is not strict."""
    await write(database, f"CREATE OR REPLACE TABLE probe (v {kind})")
    with pytest.raises(StatementError, match="v"):
        await write(database, "INSERT INTO probe VALUES (:v)", v=given)
    assert await value(database, "(SELECT count(*) FROM probe)") == 0


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("tinyint(1)", True, 1),
        ("bigint unsigned", 2**64 - 1, 2**64 - 1),
        ("decimal(20,10)", "0", "0.0000000000"),
        ("decimal(5,2)", 1.1, "1.10"),
        ("float", 1.5, 1.5),
        ("double", "1e300", 1e300),
        ("date", "2024-02-29", "2024-02-29"),
        ("date", "9999-12-31", "9999-12-31"),
        ("date", "0000-00-00", "0000-00-00"),
        ("datetime(3)", "2024-02-29T12:30:00.5", "2024-02-29T12:30:00.500"),
        ("datetime", "0000-00-00", "0000-00-00T00:00:00"),
        ("timestamp", "2024-02-29 12:30:00", "2024-02-29T12:30:00+00:00"),
        ("timestamp", "0000-00-00", "0000-00-00 00:00:00"),
        ("time", "838:59:59", "838:59:59"),
        ("time(2)", "-1:02:03.5", "-01:02:03.50"),
        ("year", 2024, 2024),
        ("bit(1)", 1, 1),
        ("bit(10)", 769, 769),
        ("json", {"a": 1}, '{"a": 1}'),
        ("enum('x','y')", "y", "y"),
        ("set('p','q')", "p,q", "p,q"),
        ("blob", b"\x00\xff", "00ff"),
        ("binary(2)", b"ab", "6162"),
        ("text character set latin1", "é", "é"),
        ("char(3)", None, None),
    ],
)
async def test_results_as_json(database: Database, kind: str, given: Any, expected: Any) -> None:
    await write(database, f"CREATE OR REPLACE TABLE probe (v {kind} NULL)")
    await write(database, "INSERT INTO probe VALUES (:v)", v=given)
    assert await rows(database, "SELECT v FROM probe") == [{"v": expected}]


async def test_moments_are_utc_whatever_the_server_says(database: Database) -> None:
    assert await value(database, "NOW() = UTC_TIMESTAMP()") == 1
    assert await value(database, "@@time_zone") == "+00:00"


async def test_a_client_that_is_cut_off_holds_its_locks_for_a_minute(database: Database) -> None:
    assert await value(database, "@@wait_timeout") == 60


async def test_texts_are_not_cut_where_they_are_joined(database: Database) -> None:
    joined = "SELECT length(group_concat(repeat('x', 1000))) AS n FROM seq_1_to_3000"
    assert await rows(database, joined) == [{"n": 3_002_999}]


async def test_a_parameter_finds_its_index(database: Database) -> None:
    await write(database, "CREATE OR REPLACE TABLE probe (a varchar(9), n int, KEY (a), KEY (n))")
    await write(database, "INSERT INTO probe SELECT seq, seq FROM seq_1_to_500")
    for column in ("a", "n"):
        [plan] = await rows(database, f"EXPLAIN SELECT * FROM probe WHERE {column} = :v", v="7")
        assert plan["key"] == column


async def test_a_list_is_looked_into_as_json(database: Database) -> None:
    found = "SELECT seq FROM seq_1_to_9 WHERE JSON_CONTAINS(:ids, CAST(seq AS CHAR))"
    assert await rows(database, found, ids=[2, 7, 70]) == [{"seq": 2}, {"seq": 7}]


async def test_columns_of_one_name_are_told_apart(database: Database) -> None:
    assert await rows(database, "SELECT 1 AS a, 2 AS a") == [{"a": 1, "a_2": 2}]


@pytest.mark.parametrize("tail", ["", " LIMIT 9999999", " UNION ALL SELECT seq FROM seq_1_to_2"])
async def test_the_limit_of_rows_is_kept_without_reading_on(mariadb: MariaDB, tail: str) -> None:
    """By the server; where the text has its own limit, by a connection that is given up."""
    async with opened(mariadb, max_pool_size=1) as database:
        sql = f"SELECT seq FROM seq_1_to_10000000{tail}"
        found = await database.read(Statement(sql), Limits(rows=3, seconds=5))
        assert ([row[0] for row in found.rows], found.is_cut) == ([1, 2, 3], True)
        assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]
        await until_running(database, "seq_1_to_10000000", 0)


async def test_rows_that_are_there_are_not_lost_to_one_that_is_not(database: Database) -> None:
    # So long that the server does not keep them for the next ones.
    long = "repeat('x', 40000)"
    sql = f"SELECT seq, {long}, IF(seq > 4, SLEEP(30), 0) FROM seq_1_to_9 LIMIT 8"
    found = await database.read(Statement(sql), Limits(rows=3, seconds=10))
    assert ([row[0] for row in found.rows], found.is_cut) == ([1, 2, 3], True)


async def test_a_connection_outlives_a_result_that_was_cut(mariadb: MariaDB) -> None:
    """The server was asked for no more; else the rest would have to be read, or given up."""
    async with opened(mariadb, max_pool_size=1) as database:
        before = await number(database)
        await database.read(Statement("SELECT seq FROM seq_1_to_10000000"), Limits(rows=3))
        assert await number(database) == before


async def test_as_many_rows_as_asked_for_are_not_cut(database: Database) -> None:
    found = await database.read(Statement("SELECT seq FROM seq_1_to_3"), Limits(rows=3))
    assert (len(found.rows), found.is_cut) == (3, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 100000) FROM seq_1_to_100000",
        # One row: it is not read at all.
        "SELECT " + ", ".join(["repeat('x', 10000000)"] * 4),
    ],
)
async def test_a_result_too_large_is_given_up(database: Database, sql: str) -> None:
    for run in (
        database.read(Statement(sql), Limits(rows=100_000, seconds=20)),
        database.write([Statement(sql)], Limits(rows=10, seconds=20)),
    ):
        with pytest.raises(StatementError, match="larger than"):
            await run
    await until_running(database, "repeat(", 0)


async def running(database: Database, part: str) -> int:
    """How many connections run a statement with this in it."""
    return len(
        await rows(
            database,
            "SELECT id FROM information_schema.processlist WHERE info LIKE :part "
            "AND id <> CONNECTION_ID()",
            part=f"%{part}%",
        )
    )


async def test_the_server_stops_what_takes_too_long(database: Database) -> None:
    for run in (
        database.read(Statement("SELECT SLEEP(31)"), Limits(seconds=0.2)),
        database.write([Statement("INSERT INTO probe SELECT SLEEP(31), ''")], Limits(seconds=0.2)),
    ):
        with pytest.raises(StatementTimeoutError, match=r"longer than 0\.2 s"):
            await run
    await until_running(database, "SLEEP(31)", 0)


async def until_running(database: Database, mark: str, count: int) -> None:
    async with asyncio.timeout(10):
        while await running(database, mark) != count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_cancelled_statement_stops_on_the_server(database: Database, is_read: bool) -> None:
    mark = str(uuid4())
    limits = Limits(seconds=30)
    if is_read:
        run = database.read(Statement(f"SELECT {_ENDLESS}, '{mark}'"), limits)
    else:
        run = database.write([Statement(f"INSERT INTO probe SELECT {_ENDLESS}, '{mark}'")], limits)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run)
        await until_running(database, mark, 1)
        task.cancel()
        await until_running(database, mark, 0)


async def test_closing_stops_what_runs(mariadb: MariaDB, database: Database) -> None:
    mark = str(uuid4())
    async with opened(mariadb) as other:
        task = asyncio.ensure_future(rows(other, f"SELECT {_ENDLESS}, '{mark}'"))
        await until_running(database, mark, 1)
    with pytest.raises(UnreachableError):
        await task
    await until_running(database, mark, 0)
    with pytest.raises(UnreachableError, match="closed"):
        await rows(other, "SELECT 1")


async def test_changes_stand_or_fall_together(database: Database) -> None:
    insert = "INSERT INTO probe (a) VALUES (1)"
    with pytest.raises(StatementError, match="nowhere"):
        await write(database, insert, "INSERT INTO nowhere VALUES (1)")
    assert await value(database, "(SELECT count(*) FROM probe)") == 0
    # After a change of structure, which ends the transaction, too.
    with pytest.raises(StatementError, match="nowhere"):
        await write(database, "ALTER TABLE probe ADD c int", insert, "DELETE FROM nowhere")
    assert await value(database, "(SELECT count(*) FROM probe)") == 0
    await write(database, insert, insert)
    assert await value(database, "(SELECT count(*) FROM probe)") == 2


async def test_what_was_changed_is_counted(database: Database) -> None:
    few = Limits(rows=2, seconds=5)
    done = await database.write(
        [Statement("INSERT INTO probe (a) SELECT seq FROM seq_1_to_5000 RETURNING a")], few
    )
    assert (done.affected, len(done.rows), done.is_cut) == (5000, 2, True)
    # Those that match, with their old value too.
    assert (await write(database, "UPDATE probe SET a = 1 WHERE a < 3")).affected == 2
    assert (await write(database, "UPDATE probe SET a = 1 WHERE a = 1")).affected == 2
    assert (await write(database, "DELETE FROM probe WHERE a > 5")).affected == 4995
    assert (await write(database, "CREATE OR REPLACE TABLE plain (a int)")).affected == 0


async def test_a_procedure_in_a_write(database: Database) -> None:
    await write(database, "INSERT INTO probe (a) VALUES (1), (2)")
    done = await write(database, "CALL tells()")
    assert (done.columns, [*done.rows], done.affected) == (("one",), [(1,)], 2)
    assert await rows(database, "SELECT a FROM probe") == [{"a": 7}, {"a": 7}]


async def test_a_read_only_connection_writes_nothing(mariadb: MariaDB) -> None:
    async with opened(mariadb, read_only=True) as database:
        with pytest.raises(ReadOnlyError):
            await write(database, "CREATE TABLE never (a int)")


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELEC 1", "SQL syntax"),
        ("SELECT nothing", "Unknown column"),
        ("SELECT * FROM mysql.global_priv", "denied"),
        ("SELECT * FROM other_database.t", "denied"),
        ("SELECT 1, (SELECT 1 UNION SELECT 2)", "more than 1 row"),
        ("SELECT JSON_EXTRACT('{}', '$.\ud800')", "surrogate"),
        ("SELECT :a FROM", "SQL syntax"),
    ],
)
async def test_a_refusal_is_the_servers_own_sentence(
    database: Database, sql: str, sentence: str
) -> None:
    with pytest.raises(StatementError, match=sentence):
        await rows(database, sql)
    assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]


async def test_a_pool_that_is_full_does_not_wait_for_ever(mariadb: MariaDB) -> None:
    async with opened(mariadb, max_pool_size=1) as database, asyncio.TaskGroup() as group:
        task = group.create_task(database.read(Statement("SELECT SLEEP(20)"), Limits(seconds=20)))
        await asyncio.sleep(0.1)
        with pytest.raises(StatementTimeoutError):
            await database.read(Statement("SELECT 1"), Limits(seconds=0.01))
        task.cancel()


async def test_a_pool_opens_no_more_than_it_may(mariadb: MariaDB) -> None:
    async with opened(mariadb, min_pool_size=2, max_pool_size=3) as database:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(value(database, "CONNECTION_ID() + 0 * SLEEP(0.02)"))
                for _ in range(9)
            ]
        assert len({each.result() for each in asked}) == 3


async def number(database: Database) -> int:
    return int(await value(database, "CONNECTION_ID()"))


async def test_a_connection_that_the_server_closed_is_not_handed_out(mariadb: MariaDB) -> None:
    async with opened(mariadb, max_pool_size=1) as database:
        before = await number(database)
        await kill(mariadb, before)
        assert await number(database) != before


async def kill(server: MariaDB, connection: int) -> None:
    """As an administrator, or a timer of the server, does."""
    import aiomysql

    admin = await aiomysql.connect(
        host="127.0.0.1",
        port=server.port,
        user="mighty",
        password=PASSWORD.encode().decode("latin-1"),
        autocommit=None,
    )
    try:
        await admin.query(f"KILL {connection}")
    finally:
        admin.close()


async def test_a_statement_that_an_administrator_kills(mariadb: MariaDB) -> None:
    mark = str(uuid4())
    async with opened(mariadb) as database:
        task = asyncio.ensure_future(rows(database, f"SELECT SLEEP(27), '{mark}'"))
        await until_running(database, mark, 1)
        sql = "SELECT id FROM information_schema.processlist WHERE info LIKE :m AND id <> CONNECTION_ID()"
        [found] = await rows(database, sql, m=f"%{mark}%")
        await kill(mariadb, found["id"])
        with pytest.raises(UnreachableError):
            await task
        assert await value(database, "1") == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"database": "nowhere"}, "denied"),
        ({"database": "nowhere", "username": "mighty"}, "Unknown database"),
        ({"username": "nobody"}, "denied"),
        ({"password": "wrong-hunter3"}, "denied"),
        ({"password": None}, "denied"),
        ({"port": 1}, "Connection refused"),
        ({"host": "nowhere.invalid"}, "nowhere.invalid"),
        ({"username": "encrypted"}, "denied"),
        ({"ssl_mode": "verify-ca"}, "certificate"),
        ({"ssl_mode": "verify-full"}, "certificate"),
        ({"ssl_mode": "verify-ca", "options": (("ssl_ca", "x"),)}, "PEM"),
    ],
)
async def test_what_cannot_be_reached_says_so(
    mariadb: MariaDB, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnreachableError, match=reason) as raised:
        async with opened(mariadb, **changes):
            pass
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize(
    ("mode", "host", "is_encrypted"),
    [
        ("disable", "127.0.0.1", False),
        ("allow", "127.0.0.1", True),
        ("prefer", "127.0.0.1", True),
        ("require", "127.0.0.1", True),
        ("verify-ca", "localhost", True),
        ("verify-full", "127.0.0.1", True),
    ],
)
async def test_tls(mariadb: MariaDB, mode: str, host: str, is_encrypted: bool) -> None:
    options = (("ssl_ca", mariadb.authority),)
    async with opened(mariadb, ssl_mode=mode, host=host, options=options) as database:
        [row] = await rows(database, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    assert bool(row["Value"]) is is_encrypted


async def test_a_certificate_of_another_name_is_refused(mariadb: MariaDB) -> None:
    options = (("ssl_ca", mariadb.authority),)
    with pytest.raises(UnreachableError, match="certificate"):
        async with opened(mariadb, ssl_mode="verify-full", host="localhost", options=options):
            pass


@pytest.mark.parametrize(("role", "is_warned"), [("app", False), ("mighty", True)])
async def test_a_role_that_reaches_files_is_told(
    mariadb: MariaDB, role: str, is_warned: bool
) -> None:
    async with opened(mariadb, username=role) as database:
        said = await database.check(Limits(rows=1))
    assert ("FILE" in (said or "")) is is_warned


async def test_rows_are_read_as_json_can_be_written(database: Database) -> None:
    found = await rows(database, "SELECT 1.5, 1e0, X'00', NULL, '\U0001f99c', POINT(1, 2), b'101'")
    assert json.loads(json.dumps(found)) == found
