"""A Snowflake connection over HTTP: tried, browsed, queried, and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sinas.databases.base import Limits, Statement
from sinas.databases.opening import open_database
from sinas.models import QueryOperation
from tests.factories.databases import make_connection, make_query

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.models import DatabaseConnection
    from tests.fixtures.client import SignIn
    from tests.fixtures.snowflake import Snowflake

PATH = "/api/v1/database-connections"
NEW: dict[str, Any] = {
    "name": "warehouse",
    "connection_type": "snowflake",
    "host": "xy12345.eu-central-1.snowflakecomputing.com",
    "port": 443,
    "database": "SALES",
    "username": "sinas",
    "password": "hunter2",
    "config": {"warehouse": "SMALL", "role": "READER", "schema": "PUBLIC"},
}
TABLES = (
    "CREATE OR REPLACE TABLE orders (id INT NOT NULL, total NUMBER(10, 2), owner TEXT)",
    "CREATE OR REPLACE VIEW totals AS SELECT total FROM orders",
)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def shop(context: AppContext, snowflake: Snowflake) -> DatabaseConnection:
    """A connection to a database with tables."""
    target = snowflake.target()
    server = await open_database(target)
    await server.write([Statement(sql) for sql in TABLES], Limits())
    await server.aclose()
    return await make_connection(
        context,
        name="shop",
        connection_type="snowflake",
        host=target.host,
        port=target.port,
        database=target.database,
        username=target.username,
        password=target.password,
        ssl_mode="disable",
    )


async def test_it_is_tried(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    stored = (await admin.post(f"{PATH}/{shop.id}/test")).json()
    assert (stored["success"], stored["message"].startswith("Connected.")) == (True, True)
    body = {"connection_type": "snowflake", "host": shop.host, "port": shop.port}
    account = {"database": "SHOP", "username": "sinas", "password": "hunter3"}
    wrong = await admin.post(f"{PATH}/test", json=body | account | {"ssl_mode": "disable"})
    assert wrong.json()["success"] is False
    assert "Incorrect username or password" in wrong.json()["message"]
    assert "hunter3" not in wrong.text


async def test_what_is_in_it(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    assert {"schema_name": "PUBLIC"} in (await admin.get(f"{PATH}/shop/schemas")).json()
    tables = (await admin.get(f"{PATH}/shop/tables")).json()
    kinds = {each["table_name"]: each["table_type"] for each in tables}
    assert kinds["ORDERS"] == "BASE TABLE"
    table = (await admin.get(f"{PATH}/shop/tables/ORDERS")).json()
    assert [
        (c["column_name"], c["data_type"], c["is_nullable"], c["numeric_precision"])
        for c in table["columns"]
    ] == [
        ("ID", "NUMBER", "NO", 38),
        ("TOTAL", "NUMBER", "YES", 10),
        ("OWNER", "TEXT", "YES", None),
    ]
    assert (table["constraints"], table["indexes"]) == ([], [])
    views = (await admin.get(f"{PATH}/shop/views", params={"schema": "PUBLIC"})).json()
    definitions = {view["view_name"]: view["view_definition"].lower() for view in views}
    assert "select total from orders" in definitions["TOTALS"]
    evil = await admin.get(f"{PATH}/shop/tables/x", params={"schema": "'; DROP TABLE orders; --"})
    assert evil.status_code == 404


async def test_queries(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, shop: DatabaseConnection
) -> None:
    user = await as_.user("admin")

    async def execute(name: str, **given: Any) -> Any:
        answer = await admin.post(f"/queries/default/{name}/execute", json={"input": given})
        return answer.status_code, answer.json()

    adding = "INSERT INTO orders SELECT range, :total, :user_id FROM range(3)"
    reading = "SELECT id, total FROM orders WHERE owner = :user_id ORDER BY id"
    await make_query(context, user, shop, adding, name="add", operation=QueryOperation.WRITE)
    await make_query(context, user, shop, reading, name="mine", max_rows=2)
    await make_query(context, user, shop, adding, name="sly")
    endless = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"
    await make_query(context, user, shop, endless, name="slow", timeout_ms=100)
    status, added = await execute("add", total=1.5, user_id="somebody else")
    assert (status, added["affected_rows"], added["data"]) == (200, 3, None)
    status, mine = await execute("mine")
    assert (status, mine["truncated"]) == (200, True)
    assert mine["data"] == [{"ID": 0, "TOTAL": "1.50"}, {"ID": 1, "TOTAL": "1.50"}]
    status, refused = await execute("sly", total=None)
    assert (status, "only reads" in refused["detail"]) == (400, True)
    assert (await execute("slow"))[0] == 504


async def test_its_options(admin: httpx.AsyncClient) -> None:
    created = await admin.post(PATH, json=NEW)
    assert (created.status_code, created.json()["config"]) == (201, NEW["config"])
    long = await admin.post(PATH, json=NEW | {"config": {"role": "r" * 256}})
    assert (long.status_code, "at most 255" in long.text) == (422, True)
    other = NEW | {"name": "other", "connection_type": "postgresql"}
    refused = await admin.post(PATH, json=other)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "config")
    assert "warehouse is for snowflake" in refused.json()["detail"]
    moved = {"connection_type": "clickhouse", "password": "hunter2"}
    changed = await admin.patch(f"{PATH}/{created.json()['id']}", json=moved)
    assert changed.status_code == 422
    authority = {"config": {"ssl_ca": "-----BEGIN CERTIFICATE-----"}}
    unused = await admin.patch(f"{PATH}/{created.json()['id']}", json=authority)
    assert (unused.status_code, "ssl_ca is not for" in unused.json()["detail"]) == (422, True)
