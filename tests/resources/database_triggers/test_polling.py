"""What one look finds: every row once, whatever order things were committed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import func, select, update

from sinas.kit.ids import uuid7
from sinas.models import DatabaseConnection, Execution, Function, TriggerType, User
from sinas.resources.database_triggers import polling, position, repository
from sinas.resources.database_triggers.looking import look

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.resources.database_triggers.conftest import Watch

ADD = "INSERT INTO items (name) VALUES ($1)"


async def add(connection: asyncpg.Connection, *names: str) -> None:
    for name in names:
        await connection.execute(ADD, name)


async def test_rows_that_are_there_are_not_reported_and_later_ones_are(
    watch: Watch, source: asyncpg.Connection, owner: User, context: AppContext
) -> None:
    await add(source, "old")
    watched = await watch()
    await watched.look()
    assert await watched.inputs() == []
    await source.execute("INSERT INTO items (name, data) VALUES ('new', '{\"a\": [1.5]}')")
    await watched.look()
    (given,) = await watched.inputs()
    assert given["table"] == "public.items"
    assert (given["operation"], given["poll_column"], given["count"]) == ("CHANGE", "id", 1)
    assert given["rows"][0]["data"] == {"a": [1.5]}
    assert datetime.fromisoformat(given["timestamp"]).tzinfo is not None
    assert datetime.fromisoformat(given["rows"][0]["at"]).tzinfo is not None
    async with context.unit() as unit:
        execution = (await unit.session.scalars(select(Execution))).one()
    assert (execution.trigger_type, execution.user_id) == (TriggerType.CDC, owner.id)
    assert (await watched.row()).last_poll_value == "2"


async def test_the_first_rows_of_an_empty_table_are_reported(
    watch: Watch, source: asyncpg.Connection
) -> None:
    watched = await watch()
    await watched.look()
    await add(source, "first", "second")
    await watched.look()
    assert await watched.rows("name") == ["first", "second"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
async def test_equal_values_across_the_border_of_a_batch(
    watch: Watch, source: asyncpg.Connection, batch_size: int
) -> None:
    watched = await watch(poll_column="day", batch_size=batch_size)
    await source.execute(
        "INSERT INTO items (day) SELECT '2026-01-01'::date + (n / 4) FROM generate_series(0, 9) n"
    )
    await watched.look()
    assert await watched.rows() == list(range(1, 11))
    assert {given["count"] for given in (await watched.inputs())[:-1]} <= {batch_size}


async def test_a_value_that_others_had_comes_again_with_a_smaller_key(
    watch: Watch, source: asyncpg.Connection
) -> None:
    await source.execute("INSERT INTO items (id, day) VALUES (50, '2026-01-01')")
    watched = await watch(poll_column="day")
    for key in (60, 10, 55):
        await source.execute("INSERT INTO items (id, day) VALUES ($1, '2026-01-01')", key)
        await watched.look()
    await watched.look()
    assert await watched.rows() == [60, 10, 55]


async def test_more_equal_values_than_are_remembered(
    watch: Watch, source: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position, "MOST_KEYS", 3)
    watched = await watch(poll_column="day", batch_size=2)
    await source.execute("INSERT INTO items (day) SELECT '2026-01-01' FROM generate_series(1, 7)")
    await watched.look()
    await source.execute("INSERT INTO items (day) VALUES ('2026-01-01'), ('2026-01-02')")
    await watched.look()
    assert await watched.rows() == list(range(1, 10))


async def test_a_table_without_a_key(watch: Watch, source: asyncpg.Connection) -> None:
    await source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey")
    watched = await watch(poll_column="day", batch_size=2)
    await source.execute(
        "INSERT INTO items (id, day) SELECT 7, '2026-01-01' FROM generate_series(1, 5)"
    )
    await watched.look()
    await watched.look()
    assert await watched.rows() == [7] * 5


async def test_a_smaller_value_that_is_committed_later(
    watch: Watch, source: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    """Numbers are taken in one order and committed in another, with a savepoint besides."""
    watched = await watch()
    transaction = writer.transaction()
    await transaction.start()
    async with writer.transaction():
        await add(writer, "early")
    await add(source, "late")
    await watched.look()
    assert await watched.inputs() == []
    await transaction.commit()
    await add(source, "later")
    await watched.look()
    await watched.look()
    assert await watched.rows("name") == ["early", "late", "later"]


async def test_a_time_that_was_taken_before_the_table_was_touched(
    watch: Watch, source: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    watched = await watch(poll_column="at")
    transaction = writer.transaction()
    await transaction.start()
    await writer.fetchval("SELECT now()")
    await add(source, "second")
    await watched.look()
    assert await watched.inputs() == []
    await add(writer, "first")
    await transaction.commit()
    await watched.look()
    assert await watched.rows("name") == ["first", "second"]


async def test_who_only_reads_is_not_waited_for_for_ever(
    watch: Watch,
    source: asyncpg.Connection,
    writer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = await watch(poll_column="at")
    async with writer.transaction():
        await writer.fetchval("SELECT count(*) FROM items")
        await add(source, "x")
        await watched.look()
        assert await watched.inputs() == []
        monkeypatch.setattr(polling, "_PATIENCE_SECONDS", 0.0)
        await watched.look()
        assert await watched.rows("name") == ["x"]


async def test_waiting_is_told(
    watch: Watch,
    source: asyncpg.Connection,
    writer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "_TOLD_AFTER_SECONDS", 0.0)
    watched = await watch()
    async with writer.transaction():
        await add(writer, "open")
        await add(source, "committed")
        await watched.look()
        assert "Waiting for 1 open transaction" in str((await watched.row()).error_message)
    await watched.look()
    assert (await watched.row()).error_message is None
    assert await watched.rows("name") == ["open", "committed"]


async def test_rolled_back_and_deleted_rows_and_nulls(
    watch: Watch, source: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    watched = await watch(poll_column="day")
    await source.execute("INSERT INTO items (day) VALUES (NULL), ('2026-01-01'), ('2026-01-02')")
    await source.execute("DELETE FROM items WHERE id = 2")
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("INSERT INTO items (day) VALUES ('2026-01-03')")
    await transaction.rollback()
    await watched.look()
    assert await watched.rows() == [3]
    await source.execute("UPDATE items SET day = '2026-02-01' WHERE id = 1")
    await watched.look()
    assert await watched.rows() == [3, 1]


async def test_an_update_is_reported_when_it_moves_the_column(
    watch: Watch, source: asyncpg.Connection
) -> None:
    await add(source, "a", "b")
    watched = await watch(poll_column="at")
    await source.execute("UPDATE items SET name = 'c', at = clock_timestamp() WHERE id = 1")
    await watched.look()
    # What the function itself writes to the row does not start it again.
    await source.execute("UPDATE items SET data = '1' WHERE id = 1")
    await watched.look()
    assert await watched.rows("name") == ["c"]


async def test_inserts_alone(watch: Watch, source: asyncpg.Connection) -> None:
    watched = await watch(operations=["INSERT"])
    await add(source, "a")
    await watched.look()
    await source.execute("UPDATE items SET name = 'changed'")
    await watched.look()
    (given,) = await watched.inputs()
    assert (given["operation"], given["count"]) == ("INSERT", 1)


async def test_a_batch_and_its_bookmark_are_one(
    watch: Watch,
    source: asyncpg.Connection,
    context: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = await watch(batch_size=1)
    await add(source, "a", "b")
    moved = repository.move
    calls = 0

    async def dies(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("the process ends here")
        await moved(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(repository, "move", dies)
    await watched.look()
    assert await watched.rows("name") == ["a"]
    row = await watched.row()
    assert (row.last_poll_value, row.failures) == ("1", 1)
    await watched.look()
    assert await watched.rows("name") == ["a", "b"]
    assert (await watched.row()).failures == 0


async def test_a_process_that_lost_its_lease_starts_nothing(
    watch: Watch, source: asyncpg.Connection, context: AppContext
) -> None:
    watched = await watch()
    await add(source, "a")
    await watched.change(next_poll_at=None)
    first, second = uuid7(), uuid7()
    async with context.unit() as unit:
        (stale,) = await repository.take_due(unit.session, first, 5)
        assert list(await repository.take_due(unit.session, second, 5)) == []
    await watched.change(lease_until=None)
    async with context.unit() as unit:
        (taken,) = await repository.take_due(unit.session, second, 5)
    await look(context, stale, first)
    assert await watched.inputs() == []
    await look(context, taken, second)
    assert await watched.rows("name") == ["a"]


async def test_a_change_by_its_owner_voids_a_look(
    watch: Watch, source: asyncpg.Connection, context: AppContext
) -> None:
    watched = await watch()
    await add(source, "a")
    await watched.change(next_poll_at=None)
    process = uuid7()
    async with context.unit() as unit:
        (taken,) = await repository.take_due(unit.session, process, 5)
    await watched.change(generation=1, is_active=False)
    await look(context, taken, process)
    assert await watched.inputs() == []
    assert (await watched.row()).lease_owner is None


async def test_errors_are_shown_and_waited_for_longer_and_longer(
    watch: Watch, source: asyncpg.Connection, context: AppContext
) -> None:
    watched = await watch()
    await source.execute("ALTER TABLE items RENAME TO elsewhere")
    pauses = []
    try:
        for failures in (1, 2, 3):
            await watched.look()
            row = await watched.row()
            assert "no table 'public.items'" in str(row.error_message)
            assert row.failures == failures
            assert row.last_polled_at is not None
            pauses.append(row.next_poll_at - row.last_polled_at)
    finally:
        await source.execute("ALTER TABLE elsewhere RENAME TO items")
    assert pauses == [timedelta(seconds=seconds) for seconds in (1, 2, 4)]
    await watched.look()
    assert (await watched.row()).error_message is None


async def test_a_database_that_is_down_says_so(
    watch: Watch, context: AppContext, connection: DatabaseConnection
) -> None:
    watched = await watch()
    async with context.unit() as unit:
        row = await unit.session.get_one(DatabaseConnection, connection.id)
        row.host, row.port = "127.0.0.1", 1
    await watched.look()
    told = str((await watched.row()).error_message)
    assert "cannot be reached" in told
    assert "127.0.0.1" not in told


async def test_a_function_that_is_gone_loses_no_row(
    watch: Watch, source: asyncpg.Connection, context: AppContext, function: Function
) -> None:
    watched = await watch()
    await add(source, "a")
    for active in (False, True):
        async with context.unit() as unit:
            await unit.session.execute(
                update(Function).where(Function.id == function.id).values(is_active=active)
            )
        await watched.look()
        told = (await watched.row()).error_message
        assert (told is None) is active
    assert await watched.rows("name") == ["a"]


async def test_rows_too_large_for_one_execution_are_shared_out(
    watch: Watch, source: asyncpg.Connection, context: AppContext
) -> None:
    watched = await watch()
    size = context.settings.function.max_input_bytes
    await source.execute(
        "INSERT INTO items (name) SELECT repeat('x', $1) FROM generate_series(1, 3)", size * 4 // 10
    )
    await watched.look()
    assert await watched.rows() == [1, 2, 3]
    assert [given["count"] for given in await watched.inputs()] == [2, 1]


async def test_input_that_the_function_refuses_is_told_and_passed(
    watch: Watch, source: asyncpg.Connection, context: AppContext, function: Function
) -> None:
    watched = await watch()
    async with context.unit() as unit:
        await unit.session.execute(
            update(Function)
            .where(Function.id == function.id)
            .values(input_schema={"type": "object", "required": ["nothing"]})
        )
    await add(source, "a")
    await watched.look()
    assert "Schema validation failed" in str((await watched.row()).error_message)
    assert (await watched.row()).last_poll_value == "1"


async def test_odd_names_and_types(watch: Watch, source: asyncpg.Connection) -> None:
    await source.execute(
        'CREATE TABLE IF NOT EXISTS "o:dd ""t" ("v:1" numeric, "k\'" uuid, n float8, b bytea, '
        'PRIMARY KEY ("k\'", "v:1")); TRUNCATE "o:dd ""t"'
    )
    watched = await watch(table_name='o:dd "t', poll_column="v:1", batch_size=1)
    insert = "INSERT INTO \"o:dd \"\"t\" VALUES (1.50, gen_random_uuid(), 'NaN', '\\xff')"
    await source.execute(f"{insert}; {insert}")
    await watched.look()
    rows = [row for given in await watched.inputs() for row in given["rows"]]
    assert [(row["v:1"], row["n"], row["b"]) for row in rows] == [("1.50", "NaN", "ff")] * 2


async def test_times_of_the_same_moment(watch: Watch, source: asyncpg.Connection) -> None:
    watched = await watch(poll_column="at", batch_size=3)
    moment = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    await source.execute(
        "INSERT INTO items (at) SELECT $1::timestamptz FROM generate_series(1, 8)", moment
    )
    await watched.look()
    await watched.look()
    assert await watched.rows() == list(range(1, 9))
    async with watched.context.unit() as unit:
        keys = (await unit.session.scalars(select(Execution.idempotency_key))).all()
        assert await unit.session.scalar(select(func.count(Execution.id))) == 3
    assert len(set(keys)) == 3
