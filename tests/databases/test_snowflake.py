"""The Snowflake driver against an emulator of Snowflake, over Snowflake's wire."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sinas.databases.base import (
    DatabaseError,
    DriverMissingError,
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
    from tests.fixtures.snowflake import Snowflake

LIMITS = Limits(rows=100, seconds=10)
# Longer than any test.
SLOW = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"


@asynccontextmanager
async def opened(target: DatabaseTarget) -> AsyncIterator[Database]:
    database = await open_database(target)
    try:
        yield database
    finally:
        await database.aclose()


@pytest.fixture
async def database(snowflake: Snowflake) -> AsyncIterator[Database]:
    async with opened(snowflake.target(max_pool_size=1)) as database:
        await write(database, "CREATE OR REPLACE TABLE probe (a INT, b TEXT)")
        yield database


async def write(database: Database, sql: str, **parameters: Any) -> int | None:
    return (await database.write([Statement(sql, parameters)], LIMITS)).affected


async def rows(database: Database, sql: str, **parameters: Any) -> list[Any]:
    return json_rows(await database.read(Statement(sql, parameters), LIMITS))


async def asked(snowflake: Snowflake, kind: str = "query") -> list[dict[str, Any]]:
    return [each for each in (await snowflake.seen())["seen"] if each["kind"] == kind]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO probe VALUES (1, '')",
        "INSERT INTO probe SELECT 1, ''",
        "UPDATE probe SET a = 1",
        "DELETE FROM probe",
        "MERGE INTO probe USING probe AS p ON probe.a = p.a WHEN MATCHED THEN DELETE",
        "TRUNCATE TABLE probe",
        "DROP TABLE probe",
        "ALTER TABLE probe ADD COLUMN c INT",
        "CREATE TABLE other (a INT)",
        "/* SELECT */ CREATE TABLE other AS SELECT 1 AS a",
        "CALL anything()",
        "-- SELECT\nCALL anything()",
        "WITH p AS /* */ procedure () RETURNS TEXT AS $$ BEGIN RETURN ''; END $$ CALL p()",
        "GRANT SELECT ON TABLE probe TO ROLE anybody",
        "SELECT SYSTEM$CANCEL_ALL_QUERIES(1)",
        r"SELECT IDENTIFIER('SYSTEM\x24CANCEL_ALL_QUERIES')(1)",
        "SELECT identifier ( :name ) (1)",
    ],
)
async def test_a_read_changes_nothing(database: Database, snowflake: Snowflake, sql: str) -> None:
    with pytest.raises(ReadOnlyError, match="only reads"):
        await rows(database, sql)
    # It was described at most, and never run.
    assert all(
        each.get("describeOnly") for each in await asked(snowflake) if each["sqlText"] == sql
    )
    assert await rows(database, "SELECT count(*) AS n FROM probe") == [{"N": 0}]


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW TABLES",
        "DESCRIBE TABLE probe",
        "WITH x AS (SELECT 1 AS procedure) SELECT procedure, 'AS PROCEDURE (' AS b FROM x",
        "(SELECT 1 AS a)",
        "SELECT count(*) AS n FROM IDENTIFIER('probe')",
    ],
)
async def test_what_else_is_read(database: Database, sql: str) -> None:
    assert await rows(database, sql)


async def test_a_read_is_undone(database: Database, snowflake: Snowflake) -> None:
    before = len(await asked(snowflake))
    await rows(database, "SELECT 1")
    since = (await asked(snowflake))[before:]
    assert [each["sqlText"] for each in since] == ["SELECT 1", "BEGIN", "SELECT 1", "ROLLBACK"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("PUT file:///etc/passwd @stage", "moves files"),
        ("get @stage file:///tmp", "moves files"),
        ("ALTER SESSION SET TIMEZONE = 'UTC'", "session"),
        ("UNSET x", "session"),
        ("USE ROLE ACCOUNTADMIN", "session"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "session"),
        ("BEGIN SELECT 1", "session"),
        ("COPY INTO @stage FROM probe", "COPY cannot"),
        ("SELECT 1; SELECT 2", "Only one"),
        ("SELECT 1 ->> DELETE FROM probe", "Only one"),
    ],
)
async def test_what_is_refused_by_its_first_words(
    database: Database, sql: str, message: str
) -> None:
    for run in (rows, write):
        with pytest.raises(StatementError, match=message):
            await run(database, sql)


async def test_parameters(database: Database, snowflake: Snowflake) -> None:
    evil = "'; DROP TABLE probe; -- 100% ? \\"
    sql = "INSERT INTO probe VALUES (:a, :b), (:a, :missing)"
    assert await write(database, sql, a=7, b=evil) == 2
    found = await rows(database, "SELECT a, b FROM probe WHERE b = :b OR b = '%s ?'", b=evil)
    assert found == [{"A": 7, "B": evil}]
    sent = next(
        each
        for each in await asked(snowflake)
        if each["sqlText"].startswith("INSERT INTO probe VALUES (?, ?)")
    )
    assert evil not in sent["sqlText"]
    assert [sent["bindings"][str(n)]["type"] for n in range(1, 5)] == [
        "FIXED",
        "TEXT",
        "FIXED",
        "ANY",
    ]
    for value in (10**38, "\ud800"):
        with pytest.raises(StatementError, match="Parameter 'v'"):
            await rows(database, "SELECT :v", v=value)


async def test_values(database: Database) -> None:
    sql = (
        "SELECT 1 AS whole, 1.50::NUMBER(10, 2) AS exact, 1e300::FLOAT AS real, TRUE AS yes, "
        "'2020-01-02'::DATE AS day, '2020-01-02 03:04:05.123456'::TIMESTAMP_NTZ AS moment, "
        "'01:02:03'::TIME AS clock, PARSE_JSON(:json) AS variant, :list AS list, NULL AS nothing"
    )
    [found] = await rows(database, sql, json={"a": [1, 2.5, None]}, list=[1, "x"])
    assert found == {
        "WHOLE": 1,
        "EXACT": "1.50",
        "REAL": 1e300,
        "YES": True,
        "DAY": "2020-01-02",
        "MOMENT": "2020-01-02T03:04:05.123456",
        "CLOCK": "01:02:03",
        "VARIANT": {"a": [1, 2.5, None]},
        "LIST": '[1, "x"]',
        "NOTHING": None,
    }


async def test_rows_end_at_the_limit(database: Database) -> None:
    few = await database.read(Statement("SELECT range AS n FROM range(10)"), Limits(rows=3))
    assert (list(few.rows), few.is_cut) == ([(0,), (1,), (2,)], True)
    all_ = await database.read(Statement("SELECT range AS n FROM range(3)"), Limits(rows=3))
    assert (len(all_.rows), all_.is_cut) == (3, False)
    with pytest.raises(StatementError, match="larger than 32 MB"):
        await rows(database, "SELECT repeat('x', 20000000) AS a, repeat('y', 20000000) AS b")


async def test_a_result_in_several_parts(database: Database) -> None:
    sql = "SELECT range AS n FROM range(9000) ORDER BY n"
    found = await database.read(Statement(sql), Limits(rows=9000))
    assert (found.rows, found.is_cut) == ([(n,) for n in range(9000)], False)
    few = await database.read(Statement(sql), Limits(rows=2500))
    assert (few.rows, few.is_cut) == ([(n,) for n in range(2500)], True)


async def test_a_statement_is_stopped_in_time(database: Database, snowflake: Snowflake) -> None:
    with pytest.raises(StatementTimeoutError, match=r"longer than 0\.2 s"):
        await database.read(Statement(SLOW), Limits(seconds=0.2))
    assert (await asked(snowflake, "abort"))[-1]["sqlText"] == SLOW
    assert await rows(database, "SELECT 1 AS a") == [{"A": 1}]
    assert (await snowflake.seen())["running"] == []


async def test_a_statement_ends_with_its_caller(database: Database, snowflake: Snowflake) -> None:
    task = asyncio.create_task(rows(database, SLOW))  # noqa: TID251 - it is cancelled below
    while not (await snowflake.seen())["running"]:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while (await snowflake.seen())["running"]:
        await asyncio.sleep(0.02)
    # The pool's only session was given up, and another takes its place.
    assert await rows(database, "SELECT 1 AS a") == [{"A": 1}]


async def test_the_server_keeps_the_time_too(database: Database, snowflake: Snowflake) -> None:
    await database.read(Statement("SELECT 41"), Limits(seconds=2.5))
    sent = [each for each in await asked(snowflake) if each["sqlText"] == "SELECT 41"]
    assert sent[-1]["parameters"] == {"STATEMENT_TIMEOUT_IN_SECONDS": 3}


async def test_a_limit_of_the_warehouse_stops_it(snowflake: Snowflake) -> None:
    async with opened(snowflake.target(options=(("warehouse", "BRIEF"),))) as database:
        with pytest.raises(StatementTimeoutError):
            await rows(database, SLOW)


async def test_a_session_is_renewed(database: Database, snowflake: Snowflake) -> None:
    await rows(database, "SELECT 1")
    for run in (rows, write):
        before = len(await asked(snowflake, "renewal"))
        await snowflake.expire()
        await run(database, "SELECT 1")
        assert len(await asked(snowflake, "renewal")) == before + 1
    assert await rows(database, "SELECT 1 AS a") == [{"A": 1}]


async def test_writes_are_all_or_nothing(database: Database) -> None:
    adding = Statement("INSERT INTO probe VALUES (1, NULL)")
    with pytest.raises(StatementError, match="NOPE"):
        await database.write([adding, Statement("INSERT INTO nope VALUES (1)")], LIMITS)
    assert await rows(database, "SELECT a FROM probe") == []
    done = await database.write([adding, Statement("UPDATE probe SET a = 2")], LIMITS)
    assert (done.affected, done.columns) == (1, ())
    assert await write(database, "DELETE FROM probe WHERE a = 3") == 0
    shown = await database.write([Statement("SELECT a FROM probe")], LIMITS)
    assert (shown.columns, shown.rows) == (("A",), [(2,)])


async def test_a_read_only_connection_writes_nothing(snowflake: Snowflake) -> None:
    async with opened(snowflake.target(read_only=True)) as database:
        with pytest.raises(ReadOnlyError, match="'warehouse' is read-only"):
            await write(database, "CREATE TABLE other (a INT)")


async def test_waiting_for_a_session_is_within_the_limit(database: Database) -> None:
    task = asyncio.create_task(rows(database, SLOW))  # noqa: TID251 - it is cancelled below
    await asyncio.sleep(0.1)
    with pytest.raises(StatementTimeoutError):
        await database.read(Statement("SELECT 1"), Limits(seconds=0.1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_login_says(snowflake: Snowflake) -> None:
    options = (("role", "READER"), ("schema", "sales"), ("warehouse", "SMALL"))
    async with opened(snowflake.target(options=options)) as database:
        assert database.catalog.own_schema == "SALES"
        assert await rows(database, "SELECT CURRENT_SCHEMA() AS s") == [{"S": "SALES"}]
    login = (await asked(snowflake, "login"))[-1]
    chosen = {key: login["query"][key] for key in ("warehouse", "roleName", "schemaName")}
    assert chosen == {"warehouse": "SMALL", "roleName": "READER", "schemaName": "sales"}
    parameters = login["SESSION_PARAMETERS"]
    assert login["SECONDARY_ROLES"] == "NONE"
    assert parameters["CLIENT_TELEMETRY_ENABLED"] == "false"
    assert parameters["CLIENT_SESSION_KEEP_ALIVE"] == "false"
    # Telemetry, or anything else that nobody asked for.
    assert await asked(snowflake, "other") == []


async def test_a_quoted_schema_is_as_written(snowflake: Snowflake) -> None:
    async with opened(snowflake.target(options=(("schema", '"Mixed"'),))) as database:
        assert database.catalog.own_schema == "Mixed"


@pytest.mark.parametrize("role", ["READER", "accountadmin"])
async def test_a_mighty_role_is_told(snowflake: Snowflake, role: str) -> None:
    async with opened(snowflake.target(options=(("role", role),))) as database:
        told = await database.check(LIMITS)
    assert (told is not None) == (role == "accountadmin")
    assert told is None or "ACCOUNTADMIN" in told


async def test_a_key_is_a_password(snowflake: Snowflake) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    await snowflake.add_user("ROBOT", public.decode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with opened(snowflake.target(username="robot", password=pem)) as database:
        assert await rows(database, "SELECT 1 AS a") == [{"A": 1}]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"password": "hunter3"}, "Incorrect username or password"),
        ({"password": None}, "password"),
        ({"password": "-----BEGIN PRIVATE KEY-----\nhunter3"}, "Malformed PEM"),
        ({"host": "db.example.com"}, "is for an emulator"),
        ({"host": "db.example.com", "ssl_mode": "prefer"}, r"ACCOUNT\.snowflakecomputing\.com"),
        ({"ssl_mode": "require"}, r"ACCOUNT\.snowflakecomputing\.com"),
    ],
)
async def test_no_connection(snowflake: Snowflake, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreachableError, match=message) as refused:
        await open_database(snowflake.target(**columns))
    assert "hunter3" not in str(refused.value)


async def test_nobody_listens(snowflake: Snowflake) -> None:
    port = free_port()
    with pytest.raises(UnreachableError, match=f"127.0.0.1 port {port}"):
        await open_database(snowflake.target(port=port))


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nope", "SELECT 1 / 'x'"])
async def test_what_the_server_does_not_take(database: Database, sql: str) -> None:
    with pytest.raises(DatabaseError) as refused:
        await rows(database, sql)
    assert type(refused.value) is StatementError


async def test_sessions_are_ended(snowflake: Snowflake) -> None:
    before = (await snowflake.seen())["sessions"]
    async with opened(snowflake.target()) as database:
        await rows(database, "SELECT 1")
        assert (await snowflake.seen())["sessions"] == before + 1
    assert (await snowflake.seen())["sessions"] == before


async def test_the_connector_is_missing(
    snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sinas.databases.snowflake_driver", raising=False)
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    with pytest.raises(DriverMissingError, match=r"sinas-server\[snowflake\]"):
        await open_database(snowflake.target())
