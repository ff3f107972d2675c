"""Slots in users' databases: what does not let one be made, and that none is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import func, select, update

from sinas.models import DatabaseConnection, DatabaseTrigger, ReplicationSlot
from sinas.resources.database_connections.targets import target_of
from sinas.resources.database_triggers import publications, slots
from tests.resources.database_triggers.conftest import SLOTS

if TYPE_CHECKING:
    from sinas.context import AppContext

PATH = "/api/v1/database-triggers"


async def left(log: asyncpg.Connection) -> int:
    return int(
        await log.fetchval(
            f"SELECT (SELECT count(*) FROM {SLOTS}) + (SELECT count(*) FROM pg_publication)"
        )
    )


async def recorded(context: AppContext) -> list[ReplicationSlot]:
    async with context.unit() as unit:
        return list(await unit.session.scalars(select(ReplicationSlot)))


async def due_again(context: AppContext) -> None:
    async with context.unit() as unit:
        await unit.session.execute(update(ReplicationSlot).values(due_at=func.now()))


def refused(answer: httpx.Response, field: str, words: str) -> None:
    assert answer.status_code == 400, answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]


async def test_a_server_whose_log_cannot_be_decoded(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    connection: DatabaseConnection,
    context: AppContext,
) -> None:
    """The usual test server: wal_level is replica there."""
    answer = await admin.post(PATH, json={**body, "database_connection_id": str(connection.id)})
    refused(answer, "mode", "needs wal_level = logical")
    assert await recorded(context) == []


async def test_a_table_without_a_replica_identity(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection
) -> None:
    """Its own updates and deletes would be refused from then on."""
    await log.execute("ALTER TABLE items DROP CONSTRAINT items_pkey")
    answer = await admin.post(PATH, json=body)
    refused(answer, "operations", "has no replica identity")
    assert await left(log) == 0
    inserts = await admin.post(PATH, json={**body, "operations": ["INSERT"]})
    assert inserts.status_code == 201
    path = f"{PATH}/{inserts.json()['id']}"
    refused(await admin.patch(path, json={"operations": ["UPDATE"]}), "operations", "identity")
    await log.execute("INSERT INTO items (id) VALUES (1); DELETE FROM items")
    await log.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    assert (await admin.patch(path, json={"operations": ["UPDATE"]})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"table_name": "nothing"}, "table_name"), ({"schema_name": "nowhere"}, "table_name")],
)
async def test_a_table_that_is_not_there(
    admin: httpx.AsyncClient, body: dict[str, Any], fields: dict[str, str], field: str
) -> None:
    refused(await admin.post(PATH, json={**body, **fields}), field, "There is no table")


async def test_rights_that_are_missing(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    log: asyncpg.Connection,
    context: AppContext,
    log_connection: DatabaseConnection,
) -> None:
    """First those for a publication, then, as its owner, that for a slot."""
    role = f"role_{uuid4().hex}"
    await log.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE sinas TO {role}"
    )
    await log.execute(f"CREATE DATABASE {role} OWNER {role}")
    url = {"username": role, "database": role, "password_encrypted": context.cipher.encrypt("x")}
    async with context.unit() as unit:
        await unit.session.execute(
            update(DatabaseConnection).where(DatabaseConnection.id == log_connection.id).values(url)
        )
    host = log_connection.host
    mine = await asyncpg.connect(host=host, user=role, password="x", database=role)
    theirs = await asyncpg.connect(host=host, user="postgres", database=role)
    try:
        await theirs.execute(
            "CREATE TABLE items (id int PRIMARY KEY); GRANT SELECT ON items TO PUBLIC"
        )
        refused(await admin.post(PATH, json=body), "mode", "must be owner of table items")
        await theirs.execute(f"ALTER TABLE items OWNER TO {role}")
        refused(await admin.post(PATH, json=body), "mode", "attribute REPLICATION")
        assert await mine.fetchval("SELECT count(*) FROM pg_publication") == 1
        while await slots.drop_one(context):
            pass
        assert await mine.fetchval("SELECT count(*) FROM pg_publication") == 0
        assert await recorded(context) == []
        await log.execute(f"ALTER ROLE {role} REPLICATION")
        assert (await admin.post(PATH, json=body)).status_code == 201
        read_only = update(DatabaseConnection).values(read_only=True)
        async with context.unit() as unit:
            await unit.session.execute(read_only)
        refused(await admin.post(PATH, json={**body, "name": "b"}), "mode", "only reads")
        # What was made before is taken back all the same.
        assert (await admin.delete(f"{PATH}/items")).status_code == 204
        while await slots.drop_one(context):
            pass
        assert await mine.fetchval("SELECT count(*) FROM pg_publication") == 0
        assert await recorded(context) == []
    finally:
        await mine.close()
        await theirs.close()
        await context.databases.forget(log_connection.id)
        await log.execute(f"DROP DATABASE {role} WITH (FORCE)")


async def test_a_server_without_a_free_slot(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection
) -> None:
    count = int(await log.fetchval("SHOW max_replication_slots"))
    await log.execute(
        "SELECT pg_create_physical_replication_slot('sinas_' || n) FROM generate_series(1, $1::int) n",
        count,
    )
    refused(await admin.post(PATH, json=body), "mode", "max_replication_slots")


async def test_a_name_that_is_taken_leaves_no_slot(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection, context: AppContext
) -> None:
    assert (await admin.post(PATH, json=body)).status_code == 201
    assert (await admin.post(PATH, json=body)).status_code == 400
    assert await left(log) == 4
    assert await slots.drop_one(context)
    assert not await slots.drop_one(context)
    assert await left(log) == 2


async def test_deleting_the_trigger_drops_both(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection, context: AppContext
) -> None:
    await admin.post(PATH, json=body)
    # A trigger has it, however long it is there.
    await due_again(context)
    assert not await slots.drop_one(context)
    await admin.delete(f"{PATH}/items")
    assert await slots.drop_one(context)
    assert (await left(log), await recorded(context)) == (0, [])


async def test_deleting_the_connection_drops_both(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    log: asyncpg.Connection,
    context: AppContext,
    log_connection: DatabaseConnection,
) -> None:
    """The password it had last is needed, and is forgotten then."""
    trigger_id = UUID((await admin.post(PATH, json=body)).json()["id"])
    await due_again(context)
    path = f"/api/v1/database-connections/{log_connection.id}"
    assert (await admin.patch(path, json={"password": "another"})).status_code == 200
    assert not await slots.drop_one(context)
    (row,) = await recorded(context)
    assert context.cipher.decrypt(str(row.reached_by["password_encrypted"])) == "another"
    assert (await admin.delete(path)).status_code == 204
    assert await slots.drop_one(context)
    assert (await left(log), await recorded(context)) == (0, [])
    async with context.unit() as unit:
        trigger = await unit.session.get_one(DatabaseTrigger, trigger_id)
    assert trigger.replication_slot_id is None


async def test_a_server_that_is_away_is_tried_again(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection, context: AppContext
) -> None:
    await admin.post(PATH, json=body)
    await admin.delete(f"{PATH}/items")
    async with context.unit() as unit:
        await unit.session.execute(update(DatabaseConnection).values(port=1))
    for failures in (1, 2):
        await due_again(context)
        assert await slots.drop_one(context)
        assert not await slots.drop_one(context)
        (row,) = await recorded(context)
        assert row.failures == failures
        assert "cannot be reached" in str(row.error_message)
    async with context.unit() as unit:
        await unit.session.execute(update(DatabaseConnection).values(port=5432))
    await due_again(context)
    assert await slots.drop_one(context)
    assert (await left(log), await recorded(context)) == (0, [])


async def test_a_database_that_is_gone_has_no_slot(
    admin: httpx.AsyncClient, body: dict[str, Any], log: asyncpg.Connection, context: AppContext
) -> None:
    await admin.post(PATH, json=body)
    await admin.delete(f"{PATH}/items")
    async with context.unit() as unit:
        await unit.session.execute(update(DatabaseConnection).values(database="gone"))
    assert await slots.drop_one(context)
    assert await recorded(context) == []


async def test_a_process_that_ends_while_making_leaves_a_record(
    log: asyncpg.Connection,
    context: AppContext,
    log_connection: DatabaseConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ends(*_: object) -> None:
        raise GeneratorExit

    monkeypatch.setattr(publications, "state", ends)
    target = target_of(log_connection, context.cipher)
    with pytest.raises(GeneratorExit):
        await slots.make(context, target, "public", "items", ["INSERT"])
    assert await left(log) == 2
    # Another process cannot know yet that it does not go on.
    assert not await slots.drop_one(context)
    await due_again(context)
    assert await slots.drop_one(context)
    assert (await left(log), await recorded(context)) == (0, [])
