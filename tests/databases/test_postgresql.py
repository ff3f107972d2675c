"""The PostgreSQL driver against the real server."""

from __future__ import annotations

import asyncio
import dataclasses
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
from sinas.databases.pools import DatabasePools
from sinas.resources.database_connections.targets import any_target_of
from tests.factories.databases import make_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sinas.context import AppContext
    from sinas.databases.base import Database, DatabaseTarget

LIMITS = Limits(rows=100, seconds=10)


@pytest.fixture
async def target(context: AppContext) -> DatabaseTarget:
    return any_target_of(await make_connection(context), context.cipher)


@pytest.fixture
async def pools() -> AsyncIterator[DatabasePools]:
    pools = DatabasePools()
    yield pools
    await pools.aclose()


@pytest.fixture
async def database(pools: DatabasePools, target: DatabaseTarget) -> AsyncIterator[Database]:
    async with pools.database(target) as database:
        await database.write([Statement("CREATE TABLE probe (a int, b text)")], LIMITS)
        yield database
        await database.write([Statement("DROP TABLE probe")], LIMITS)


async def rows(database: Database, sql: str, **parameters: Any) -> list[Any]:
    return json_rows(await database.read(Statement(sql, parameters), LIMITS))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO probe VALUES (1)",
        "WITH x AS (INSERT INTO probe VALUES (1) RETURNING a) SELECT * FROM x",
        "EXPLAIN ANALYZE INSERT INTO probe VALUES (1)",
        "CREATE TABLE other (a int)",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "DO $$ BEGIN EXECUTE 'SET TRANSACTION READ WRITE'; INSERT INTO probe VALUES (1); END $$",
        "DO $$ BEGIN COMMIT; INSERT INTO probe VALUES (1); END $$",
        (
            "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); "
            "EXCEPTION WHEN OTHERS THEN INSERT INTO probe VALUES (1); END $$"
        ),
        "SELECT changes()",
        "SET TRANSACTION READ WRITE",
        "COMMIT",
        "SELECT 1; INSERT INTO probe VALUES (1)",
        "COPY probe FROM PROGRAM 'echo 1'",
        "TRUNCATE probe",
        "SELECT * FROM probe FOR UPDATE",
    ],
)
async def test_a_read_changes_nothing(database: Database, sql: str) -> None:
    function = "CREATE OR REPLACE FUNCTION changes() RETURNS int LANGUAGE sql AS "
    await database.write(
        [Statement(f"{function} $$ INSERT INTO probe VALUES (1) RETURNING a $$")], LIMITS
    )
    with pytest.raises(StatementError):
        await database.read(Statement(sql), LIMITS)
    assert await rows(database, "SELECT count(*) AS n FROM probe") == [{"n": 0}]


async def test_nothing_of_a_read_outlives_it(target: DatabaseTarget, pools: DatabasePools) -> None:
    """A setting, a session's lock: the next user of the connection finds none of them."""
    one = dataclasses.replace(target, max_pool_size=1)
    async with pools.database(one) as database:
        await rows(
            database,
            "SELECT set_config('search_path', 'evil', false), "
            "set_config('default_transaction_read_only', 'on', false), pg_advisory_lock(4711)::text",
        )
        found = await rows(
            database,
            "SELECT current_setting('search_path') AS path, "
            "current_setting('default_transaction_read_only') AS mode, "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711) AS locks",
        )
    assert found == [{"path": '"$user", public', "mode": "off", "locks": 0}]


async def test_values_are_never_text_of_the_statement(database: Database) -> None:
    evil = "x'); DROP TABLE probe; --"
    await database.write([Statement("INSERT INTO probe (b) VALUES (:b)", {"b": evil})], LIMITS)
    found = await rows(database, "SELECT b FROM probe WHERE b = :b AND b <> ':b'", b=evil)
    assert found == [{"b": evil}]


async def test_a_missing_value_is_null(database: Database) -> None:
    assert await rows(database, "SELECT :a::text AS a") == [{"a": None}]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("1.50::numeric", "1.50"),
        ("'NaN'::numeric", "NaN"),
        ("'NaN'::float8", "NaN"),
        ("'-Infinity'::float8", "-Infinity"),
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::date", "-infinity"),
        ("'-infinity'::timestamp", "-infinity"),
        ("ARRAY['infinity'::date, NULL]", ["infinity", None]),
        # Days that people write, though they are Python's last and first.
        ("date '9999-12-31'", "9999-12-31"),
        ("timestamp '9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
        ("date '0001-01-01'", "0001-01-01"),
        # What Python has no value for.
        ("date '10000-01-01'", "10000-01-01"),
        ("date '0044-03-15 BC'", "0044-03-15 BC"),
        ("date '4713-01-01 BC'", "4713-01-01 BC"),
        ("date '5874897-12-31'", "5874897-12-31"),
        ("timestamp '12024-02-29 12:30:00.5'", "12024-02-29T12:30:00.500000"),
        ("timestamptz '99999-01-01 02:00+02'", "99999-01-01T00:00:00+00:00"),
        ("timestamptz '0001-01-01 00:30+02 BC'", "0002-12-31T22:30:00+00:00 BC"),
        ("time '24:00'", "24:00:00"),
        ("time '23:59:59.999999'", "23:59:59.999999"),
        ("timetz '12:30+02'", "12:30:00+02:00"),
        ("date '2024-02-29'", "2024-02-29"),
        ("timestamp '2024-02-29 12:30'", "2024-02-29T12:30:00"),
        ("time '12:30'", "12:30:00"),
        ("interval '1 minute 1.5 s'", 61.5),
        ("'\\x00ff'::bytea", "00ff"),
        ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
        ("'[1e999]'::json", ["Infinity"]),
        ("ARRAY[[1, NULL], [3, 4]]", [[1, None], [3, 4]]),
        ("ARRAY['2024-01-01'::date]", ["2024-01-01"]),
        ("'7d444840-9dc0-11d1-b245-5ffdce74fad2'::uuid", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("int4range(1, 3)", "[1,3)"),
        ("'empty'::int4range", "empty"),
        ("B'101'", "101"),
        ("ROW(1, 'a')", [1, "a"]),
        ("9223372036854775807", 9223372036854775807),
        ("true", True),
        ("NULL", None),
    ],
)
async def test_results_as_json(database: Database, sql: str, expected: Any) -> None:
    assert await rows(database, f"SELECT {sql} AS value") == [{"value": expected}]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("int", "7", 7),
        ("int", 7.0, 7),
        ("bigint[]", [1, None, "3"], [1, None, 3]),
        ("numeric", 1.1, "1.1"),
        ("float8", "NaN", "NaN"),
        ("bool", "yes", True),
        ("text", 5, "5"),
        ("date", "2024-02-29T10:00:00Z", "2024-02-29"),
        ("timestamp", "2024-02-29 10:00", "2024-02-29T10:00:00"),
        ("timestamptz", "2024-02-29T10:00:00Z", "2024-02-29T10:00:00+00:00"),
        ("timestamptz", "2024-02-29T10:00:00", "2024-02-29T10:00:00+00:00"),
        ("timestamptz", "2024-02-29T10:00:00+02:00", "2024-02-29T08:00:00+00:00"),
        ("timestamptz", "infinity", "infinity"),
        ("timestamp", "-infinity", "-infinity"),
        ("date", "infinity", "infinity"),
        ("date", "9999-12-31", "9999-12-31"),
        ("date[]", ["2024-02-29", None, "infinity"], ["2024-02-29", None, "infinity"]),
        ("time", "24:00", "24:00:00"),
        ("time", "12:30", "12:30:00"),
        ("timetz", "12:30+02:00", "12:30:00+02:00"),
        ("numeric", "1e-16383", "1E-16383"),
        ("interval", 90, 90.0),
        ("bytea", "00ff", "00ff"),
        ("jsonb", {"a": 1}, {"a": 1}),
        ("jsonb", '{"a": 1}', {"a": 1}),
        ("jsonb", "plain", "plain"),
        ("uuid", "7D4448409DC011D1B2455FFDCE74FAD2", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ("inet", "10.0.0.1", "10.0.0.1"),
    ],
)
async def test_values_take_the_type_of_their_parameter(
    database: Database, kind: str, given: Any, expected: Any
) -> None:
    assert await rows(database, f"SELECT :v::{kind} AS v", v=given) == [{"v": expected}]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", "seven"),
        ("int", 1.5),
        ("int", True),
        ("int", 2**40),
        ("int", {"a": 1}),
        ("int[]", 7),
        # Written out they would be millions of digits, which take minutes.
        ("int", "1e6000000"),
        ("bigint", "1e5000"),
        ("int[]", ["-1e6000000"]),
        ("numeric", "1e131072"),
        ("numeric", "1e-16384"),
        ("float8", 10**400),
        ("date", "tomorrow"),
        ("date", 7),
        ("uuid", "x"),
        ("bytea", "xyz"),
        ("bool", "perhaps"),
        ("text", "a\x00b"),
        ("point", "nowhere"),
        ("interval", 1e300),
    ],
)
async def test_a_value_that_does_not_fit_is_the_callers_mistake(
    database: Database, kind: str, given: Any
) -> None:
    with pytest.raises(StatementError):
        await rows(database, f"SELECT :v::{kind} AS v", v=given)
    assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]


async def test_what_the_driver_cannot_read_is_told(database: Database) -> None:
    for run in (
        database.read(Statement("SELECT interval '170000000 years' AS x"), Limits()),
        database.write([Statement("SELECT interval '170000000 years' AS x")], Limits()),
    ):
        with pytest.raises(StatementError, match="cast its column to text"):
            await run
    assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]


async def test_columns_of_one_name_are_told_apart(database: Database) -> None:
    assert await rows(database, "SELECT 1 AS a, 2 AS a, 3 AS a_2") == [
        {"a": 1, "a_2": 2, "a_2_2": 3}
    ]


async def test_the_limit_of_rows_is_kept_by_the_cursor(database: Database) -> None:
    sql = "SELECT n, 'LIMIT' AS word FROM generate_series(1, 10000000) AS n"
    found = await database.read(Statement(sql), Limits(rows=3, seconds=5))
    assert ([row[0] for row in found.rows], found.is_cut) == ([1, 2, 3], True)


async def test_a_result_too_large_is_given_up(database: Database) -> None:
    sql = "SELECT repeat('x', 100000) FROM generate_series(1, 100000)"
    with pytest.raises(StatementError, match="larger than"):
        await database.read(Statement(sql), Limits(rows=100_000, seconds=20))


async def test_the_server_stops_what_takes_too_long(database: Database) -> None:
    sleeping = Statement("SELECT set_config('statement_timeout', '0', false), pg_sleep(30)")
    with pytest.raises(StatementTimeoutError, match=r"longer than 0\.2 s"):
        await database.read(sleeping, Limits(seconds=0.2))
    assert await rows(
        database,
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' "
        "AND pid <> pg_backend_pid()",
    ) == [{"n": 0}]


async def test_a_cancelled_read_stops_on_the_server(database: Database) -> None:
    marked = f"SELECT pg_sleep(29), '{uuid4()}'"
    running = "SELECT count(*) AS n FROM pg_stat_activity WHERE query = :q AND state = 'active'"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(database.read(Statement(marked), Limits(seconds=30)))
        async with asyncio.timeout(10):
            while await rows(database, running, q=marked) == [{"n": 0}]:
                await asyncio.sleep(0.01)
            task.cancel()
            while await rows(database, running, q=marked) != [{"n": 0}]:
                await asyncio.sleep(0.01)


async def test_changes_stand_or_fall_together(database: Database) -> None:
    with pytest.raises(StatementError):
        await database.write(
            [
                Statement("INSERT INTO probe VALUES (1)"),
                Statement("INSERT INTO nowhere VALUES (1)"),
            ],
            LIMITS,
        )
    assert await rows(database, "SELECT count(*) AS n FROM probe") == [{"n": 0}]
    done = await database.write(
        [Statement("INSERT INTO probe SELECT n FROM generate_series(1, 5) n RETURNING a")],
        Limits(rows=2, seconds=5),
    )
    assert (done.affected, len(done.rows), done.is_cut) == (5, 2, True)


async def test_a_read_only_connection_writes_nothing(
    pools: DatabasePools, target: DatabaseTarget
) -> None:
    async with pools.database(dataclasses.replace(target, read_only=True)) as database:
        with pytest.raises(ReadOnlyError):
            await database.write([Statement("CREATE TABLE never (a int)")], LIMITS)


async def test_a_pool_that_is_full_does_not_wait_for_ever(
    pools: DatabasePools, target: DatabaseTarget
) -> None:
    async with (
        pools.database(dataclasses.replace(target, max_pool_size=1)) as database,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(
            database.read(Statement("SELECT pg_sleep(20)"), Limits(seconds=20))
        )
        await asyncio.sleep(0.1)
        with pytest.raises(StatementTimeoutError):
            await database.read(Statement("SELECT 1"), Limits(seconds=0.01))
        task.cancel()


@pytest.mark.parametrize(
    "changes",
    [
        {"database": "nowhere"},
        {"username": "nobody-of-that-name"},
        {"host": "127.0.0.1", "port": 1},
        {"host": "127.0.0.1", "port": 1, "ssl_mode": "verify-full"},
        {"host": "127.0.0.1", "port": 1, "ssl_mode": "verify-ca", "options": (("ssl_ca", "x"),)},
        {"connection_type": "of-no-driver"},
    ],
)
async def test_what_cannot_be_reached_says_so(
    pools: DatabasePools, target: DatabaseTarget, changes: dict[str, Any]
) -> None:
    with pytest.raises(UnreachableError):
        async with pools.database(
            dataclasses.replace(target, min_pool_size=1, password="hunter2", **changes)
        ):
            pass


async def test_a_changed_row_gets_a_pool_of_its_own(
    pools: DatabasePools, target: DatabaseTarget
) -> None:
    async with pools.database(target) as before:
        async with pools.database(target) as same:
            assert same is before
        async with pools.database(dataclasses.replace(target, read_only=True)) as after:
            assert after is not before
        # Still in use, so still open.
        assert await rows(before, "SELECT 1 AS one") == [{"one": 1}]
    with pytest.raises(StatementError):
        await rows(before, "SELECT 1 AS one")


async def test_idle_pools_are_closed(pools: DatabasePools, target: DatabaseTarget) -> None:
    async with pools.database(target) as database:
        await pools.close_idle(0)
        assert await rows(database, "SELECT 1 AS one") == [{"one": 1}]
    await pools.close_idle(0)
    with pytest.raises(StatementError):
        await rows(database, "SELECT 1 AS one")


async def test_a_password_is_in_no_text_of_a_target(target: DatabaseTarget) -> None:
    assert "hunter2" not in repr(dataclasses.replace(target, password="hunter2"))
