"""Database connections over HTTP: passwords only go in, and what is in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from sinas.models import DatabaseConnection
from tests.factories.databases import make_connection

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/database-connections"
NEW = {
    "name": "warehouse",
    "connection_type": "postgresql",
    "host": "127.0.0.1",
    "port": 1,
    "database": "sales",
    "username": "reader",
    "password": "hunter2-hunter2",
}


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def browsed(context: AppContext, admin: httpx.AsyncClient) -> DatabaseConnection:
    """A connection to the test's database."""
    return await make_connection(context, name="here")


async def test_a_password_is_stored_encrypted(
    context: AppContext, admin: httpx.AsyncClient
) -> None:
    created = (await admin.post(PATH, json=NEW)).json()
    async with context.sessions() as session:
        row = await session.scalar(
            select(DatabaseConnection).where(DatabaseConnection.name == "warehouse")
        )
    assert row is not None
    assert row.password_encrypted is not None
    assert "hunter2" not in row.password_encrypted
    assert context.cipher.decrypt(row.password_encrypted) == "hunter2-hunter2"
    assert (created["ssl_mode"], created["config"], created["is_active"]) == ("prefer", {}, True)


@pytest.mark.parametrize("change", [{"host": "evil.example.com"}, {"port": 5433}])
async def test_a_stored_password_goes_to_no_other_server(
    admin: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    created = (await admin.post(PATH, json=NEW)).json()
    refused = await admin.patch(f"{PATH}/{created['id']}", json=change)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "password")
    accepted = await admin.patch(f"{PATH}/{created['id']}", json={**change, "password": "other"})
    assert accepted.status_code == 200


@pytest.mark.parametrize("name", ["test", "stored"])
async def test_trying_a_connection_tells_what_is_wrong(admin: httpx.AsyncClient, name: str) -> None:
    if name == "stored":
        created = (await admin.post(PATH, json=NEW)).json()
        answer = await admin.post(f"{PATH}/{created['id']}/test")
    else:
        answer = await admin.post(
            f"{PATH}/test", json={key: value for key, value in NEW.items() if key != "name"}
        )
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    assert (outcome["success"], outcome["latency_ms"]) == (False, None)
    assert "127.0.0.1 port 1" in outcome["message"]
    assert "hunter2" not in answer.text


async def test_trying_one_that_works(admin: httpx.AsyncClient, browsed: DatabaseConnection) -> None:
    outcome = (await admin.post(f"{PATH}/{browsed.id}/test")).json()
    assert outcome["success"] is True
    assert outcome["message"].startswith("Connected.")
    # The tests' own role is one; an owner should know.
    assert "superuser" in outcome["message"]


async def test_an_inactive_one_is_not_used(
    admin: httpx.AsyncClient, browsed: DatabaseConnection
) -> None:
    await admin.patch(f"{PATH}/{browsed.id}", json={"is_active": False})
    assert (await admin.get(f"{PATH}/here/schemas")).status_code == 409


async def test_a_table_with_everything(
    context: AppContext, admin: httpx.AsyncClient, browsed: DatabaseConnection
) -> None:
    async with context.unit() as unit:
        for statement in (
            'CREATE SCHEMA "odd ""schema"',
            (
                'CREATE TABLE "odd ""schema"."a\'b" (id int PRIMARY KEY, n numeric(6,2) DEFAULT 1 '
                "NOT NULL, word varchar(9) UNIQUE CHECK (word <> ''))"
            ),
            'CREATE TABLE "odd ""schema".child (parent int REFERENCES "odd ""schema"."a\'b")',
            'CREATE VIEW "odd ""schema".v AS SELECT id FROM "odd ""schema"."a\'b"',
        ):
            await unit.session.execute(text(statement))
    schema = {"schema": 'odd "schema'}
    try:
        schemas = (await admin.get(f"{PATH}/here/schemas")).json()
        assert {"schema_name": 'odd "schema'} in schemas
        assert {"schema_name": "pg_catalog"} not in schemas
        said = [
            {"table_name": "a'b", "display_name": "Things", "description": "All of them"},
            {"table_name": "a'b", "column_name": "n", "description": "How many"},
        ]
        put = await admin.put(
            f"{PATH}/here/annotations",
            json={"annotations": [each | {"schema_name": 'odd "schema'} for each in said]},
        )
        assert put.json() == {"upserted": 2}
        tables = (await admin.get(f"{PATH}/here/tables", params=schema)).json()
        assert [(t["table_name"], t["table_type"], t["display_name"]) for t in tables] == [
            ("a'b", "BASE TABLE", "Things"),
            ("child", "BASE TABLE", None),
            ("v", "VIEW", None),
        ]
        table = (await admin.get(f"{PATH}/here/tables/a'b", params=schema)).json()
        assert table["columns"][0] == {
            "column_name": "id",
            "data_type": "integer",
            "udt_name": "int4",
            "is_nullable": "NO",
            "column_default": None,
            "character_maximum_length": None,
            "numeric_precision": 32,
            "numeric_scale": 0,
            "ordinal_position": 1,
            "is_primary_key": True,
            "display_name": None,
            "description": None,
        }
        assert table["columns"][1]["description"] == "How many"
        assert {"PRIMARY KEY", "UNIQUE", "CHECK"} <= {
            each["constraint_type"] for each in table["constraints"]
        }
        assert len(table["indexes"]) == 2
        child = (await admin.get(f"{PATH}/here/tables/child", params=schema)).json()
        foreign = [c for c in child["constraints"] if c["constraint_type"] == "FOREIGN KEY"]
        assert (foreign[0]["columns"], foreign[0]["ref_table"], foreign[0]["ref_columns"]) == (
            ["parent"],
            "a'b",
            ["id"],
        )
        views = (await admin.get(f"{PATH}/here/views", params=schema)).json()
        assert [view["view_name"] for view in views] == ["v"]
    finally:
        async with context.unit() as unit:
            await unit.session.execute(text('DROP SCHEMA "odd ""schema" CASCADE'))


async def test_no_table_and_no_connection(
    admin: httpx.AsyncClient, browsed: DatabaseConnection
) -> None:
    assert (await admin.get(f"{PATH}/here/tables/nowhere")).status_code == 404
    evil = await admin.get(f"{PATH}/here/tables/x", params={"schema": "'; DROP TABLE users; --"})
    assert evil.status_code == 404
    assert (await admin.get(f"{PATH}/here/tables", params={"schema": "a\x00"})).status_code == 400
    assert (await admin.get(f"{PATH}/nowhere/tables")).status_code == 404
    put = await admin.put(f"{PATH}/nowhere/annotations", json={"annotations": []})
    assert put.status_code == 404


async def test_annotations_replace_those_of_their_place(
    admin: httpx.AsyncClient, browsed: DatabaseConnection
) -> None:
    path = f"{PATH}/here/annotations"
    first = {"table_name": "t", "display_name": "A"}
    column = {"table_name": "t", "column_name": "c", "description": "B"}
    await admin.put(path, json={"annotations": [first, column]})
    again = await admin.put(path, json={"annotations": [first, first | {"display_name": "Z"}]})
    assert again.json() == {"upserted": 1}
    held = (await admin.get(path)).json()
    assert [(a["column_name"], a["display_name"], a["description"]) for a in held] == [
        (None, "Z", None),
        ("c", None, "B"),
    ]
