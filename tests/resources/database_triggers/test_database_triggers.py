"""Managing triggers: what is refused before it could fail, and what a change does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import update

from sinas.models import DatabaseConnection, Function, User
from tests.factories.functions import make_function

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.resources.database_triggers.conftest import Watch

PATH = "/api/v1/database-triggers"


@pytest.fixture
async def owner(as_: SignIn) -> User:
    """An admin, who may make triggers."""
    return await as_.user("admin")


@pytest.fixture
def body(connection: DatabaseConnection, function: Function) -> dict[str, Any]:
    return {
        "name": "items",
        "database_connection_id": str(connection.id),
        "table_name": "items",
        "function_name": function.name,
        "poll_column": "id",
    }


async def test_defaults(admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await admin.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert {key: created[key] for key in body} == body
    assert created["schema_name"] == "public"
    assert created["operations"] == ["INSERT", "UPDATE"]
    assert (created["poll_interval_seconds"], created["batch_size"]) == (10, 100)
    assert created["is_active"] is True
    assert (created["last_poll_value"], created["error_message"]) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("table_name", "nothing", 400),
        ("table_name", "items_view", 400),
        ("table_name", 'items"; DROP TABLE items; --', 400),
        ("schema_name", "elsewhere", 400),
        ("poll_column", "nothing", 400),
        ("poll_column", "data", 400),
        ("poll_column", "ctid", 400),
        ("table_name", "nul\x00", 422),
        ("function_name", "nothing", 404),
        ("database_connection_id", str(UUID(int=7)), 404),
    ],
)
async def test_what_cannot_work_is_refused_with_its_field(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    source: asyncpg.Connection,
    field: str,
    value: str,
    status: int,
) -> None:
    await source.execute("CREATE OR REPLACE VIEW items_view AS SELECT * FROM items")
    answer = await admin.post(PATH, json={**body, field: value})
    assert answer.status_code == status, answer.text
    if status == 400:
        named = "table_name" if field == "schema_name" else field
        assert [error["field"] for error in answer.json()["errors"]] == [named]
    assert (await admin.get(PATH)).json() == []


@pytest.mark.parametrize(
    ("operations", "column", "status"),
    [
        (["INSERT"], "id", 201),
        (["INSERT"], "at", 400),
        (["UPDATE"], "at", 400),
        (["UPDATE"], "id", 400),
        (["UPDATE", "INSERT"], "at", 201),
    ],
)
async def test_operations_that_polling_cannot_tell_apart(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    operations: list[str],
    column: str,
    status: int,
) -> None:
    answer = await admin.post(PATH, json={**body, "operations": operations, "poll_column": column})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "columns",
    [
        {"host": "127.0.0.1", "port": 1},
        {"database": "nothing"},
        {"connection_type": "clickhouse"},
        {"is_active": False},
    ],
    ids=str,
)
async def test_a_connection_that_is_of_no_use(
    admin: httpx.AsyncClient,
    body: dict[str, Any],
    context: AppContext,
    connection: DatabaseConnection,
    columns: dict[str, Any],
) -> None:
    async with context.unit() as unit:
        await unit.session.execute(
            update(DatabaseConnection).where(DatabaseConnection.id == connection.id).values(columns)
        )
    answer = await admin.post(PATH, json=body)
    assert answer.status_code in (400, 409), answer.text


async def test_the_function_must_be_one_they_may_run(
    as_: SignIn, body: dict[str, Any], owner: User
) -> None:
    limited = await as_.key(owner, ["sinas.database_triggers.create:own"])
    assert (await limited.post(PATH, json=body)).status_code == 403


async def test_pausing_keeps_what_comes_and_a_reset_begins_anew(
    admin: httpx.AsyncClient, watch: Watch, source: asyncpg.Connection
) -> None:
    await source.execute("INSERT INTO items (name) VALUES ('old')")
    watched = await watch()
    path = f"{PATH}/{watched.id}"
    assert (await admin.patch(path, json={"is_active": False})).json()["is_active"] is False
    await source.execute("INSERT INTO items (name) VALUES ('meanwhile')")
    assert (await admin.patch(path, json={"is_active": True})).status_code == 200
    await watched.look()
    assert await watched.rows("name") == ["meanwhile"]
    assert (await admin.get(path)).json()["last_poll_value"] == "2"
    answer = await admin.post(f"{path}/reset", json={"position": "beginning"})
    assert (answer.status_code, answer.json()["last_poll_value"]) == (200, None)
    await watched.look()
    assert await watched.rows("name") == ["meanwhile", "old", "meanwhile"]
    await source.execute("INSERT INTO items (name) VALUES ('skipped')")
    await admin.post(f"{path}/reset", json={"position": "now"})
    await watched.look()
    await source.execute("INSERT INTO items (name) VALUES ('after')")
    await watched.look()
    assert await watched.rows("name") == ["meanwhile", "old", "meanwhile", "after"]


async def test_another_column_starts_from_the_table_as_it_is(
    admin: httpx.AsyncClient, watch: Watch, source: asyncpg.Connection
) -> None:
    watched = await watch()
    await source.execute("INSERT INTO items (name) VALUES ('a')")
    path = f"{PATH}/{watched.id}"
    assert (await admin.patch(path, json={"poll_column": "data"})).status_code == 400
    assert (await admin.patch(path, json={"poll_column": "at"})).status_code == 200
    await watched.look()
    await source.execute("INSERT INTO items (name) VALUES ('b')")
    await watched.look()
    assert await watched.rows("name") == ["b"]


async def test_whoever_changes_the_function_limits_it_to_what_they_hold(
    as_: SignIn, watch: Watch, context: AppContext, owner: User
) -> None:
    watched = await watch()
    await make_function(context, owner, name="other")
    limits = ["sinas.database_triggers.*:own", "sinas.functions/default/other.execute:own"]
    limited = await as_.key(owner, limits)
    path = f"{PATH}/{watched.id}"
    assert (await limited.patch(path, json={"function_name": "nothing"})).status_code == 403
    assert (await limited.patch(path, json={"function_name": "other"})).status_code == 200
    assert set((await watched.row()).access or {}) == set(limits)
