"""A ClickHouse connection over HTTP: tried, browsed, queried, and shown to an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.databases.base import Limits, Statement
from sinas.databases.opening import open_database
from sinas.models import QueryOperation
from sinas.resources.database_connections.tools import IntrospectionTools
from sinas.tools.base import Call, Ok, ToolContext
from tests.factories.chats import make_agent
from tests.factories.databases import make_connection, make_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from sinas.context import AppContext
    from sinas.models import DatabaseConnection
    from tests.fixtures.clickhouse import ClickHouse
    from tests.fixtures.client import SignIn

PATH = "/api/v1/database-connections"
TABLES = (
    "CREATE DATABASE shop",
    (
        "CREATE TABLE shop.orders (id UInt64, total Nullable(Decimal(10, 2)), owner LowCardinality("
        "String) DEFAULT 'x', at DateTime('UTC'), INDEX by_total total TYPE minmax GRANULARITY 4) "
        "ENGINE = MergeTree PARTITION BY toYYYYMM(at) PRIMARY KEY id ORDER BY (id, at)"
    ),
    "CREATE VIEW shop.totals AS SELECT sum(total) AS total FROM shop.orders",
    "CREATE MATERIALIZED VIEW shop.kept ENGINE = MergeTree ORDER BY id AS SELECT id FROM shop.orders",
)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def shop(context: AppContext, clickhouse: ClickHouse) -> AsyncIterator[DatabaseConnection]:
    """A connection to a database with tables."""
    server = await open_database(clickhouse.target())
    await server.write([Statement(sql) for sql in TABLES], Limits())
    target = clickhouse.target()
    yield await make_connection(
        context,
        name="shop",
        connection_type="clickhouse",
        host=target.host,
        port=target.port,
        database="shop",
        username=target.username,
        password=target.password,
    )
    await server.write([Statement("DROP DATABASE shop")], Limits())
    await server.aclose()


async def test_it_is_tried(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    stored = (await admin.post(f"{PATH}/{shop.id}/test")).json()
    assert (stored["success"], stored["message"].startswith("Connected.")) == (True, True)
    body = {"connection_type": "clickhouse", "host": shop.host, "port": shop.port}
    account = {"database": "shop", "username": "default", "password": "hunter3"}
    wrong = (await admin.post(f"{PATH}/test", json=body | account)).json()
    assert wrong["success"] is False
    assert "Authentication failed" in wrong["message"]
    assert "hunter3" not in wrong["message"]


async def test_what_is_in_it(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    schemas = (await admin.get(f"{PATH}/shop/schemas")).json()
    assert schemas == [{"schema_name": "default"}, {"schema_name": "shop"}]
    # No schema is the connection's own database.
    tables = (await admin.get(f"{PATH}/shop/tables")).json()
    assert [(each["table_name"], each["table_type"]) for each in tables] == [
        ("kept", "MATERIALIZED VIEW"),
        ("orders", "BASE TABLE"),
        ("totals", "VIEW"),
    ]
    assert (tables[1]["estimated_rows"], tables[1]["size_bytes"]) == (0, 0)
    views = (await admin.get(f"{PATH}/shop/views", params={"schema": "shop"})).json()
    assert [view["view_name"] for view in views] == ["kept", "totals"]
    assert "sum(total)" in views[1]["view_definition"]
    evil = await admin.get(f"{PATH}/shop/tables/x", params={"schema": "'; DROP TABLE orders; --"})
    assert evil.status_code == 404


async def test_a_table_of_it(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    table = (await admin.get(f"{PATH}/shop/tables/orders")).json()
    assert [
        (c["column_name"], c["data_type"], c["udt_name"], c["is_nullable"], c["is_primary_key"])
        for c in table["columns"]
    ] == [
        ("id", "UInt64", "UInt64", "NO", True),
        ("total", "Nullable(Decimal(10, 2))", "Decimal", "YES", False),
        ("owner", "LowCardinality(String)", "String", "NO", False),
        ("at", "DateTime('UTC')", "DateTime", "NO", False),
    ]
    total, owner = table["columns"][1:3]
    assert (total["numeric_precision"], total["numeric_scale"]) == (10, 2)
    assert owner["column_default"] == "'x'"
    assert table["constraints"] == []
    assert table["indexes"] == [
        {"index_name": "primary key", "definition": "PRIMARY KEY (id)"},
        {"index_name": "sorting key", "definition": "ORDER BY (id, at)"},
        {"index_name": "partition key", "definition": "PARTITION BY toYYYYMM(at)"},
        {
            "index_name": "by_total",
            "definition": "INDEX by_total total TYPE minmax GRANULARITY 4",
        },
    ]


async def test_its_tables_are_not_changed_by_other_means(
    admin: httpx.AsyncClient, shop: DatabaseConnection
) -> None:
    answer = await admin.get(f"{PATH}/shop/tables/orders/rows")
    assert (answer.status_code, "clickhouse" in answer.json()["detail"]) == (400, True)


async def test_queries(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, shop: DatabaseConnection
) -> None:
    user = await as_.user("admin")

    async def execute(name: str, **given: Any) -> Any:
        answer = await admin.post(f"/queries/default/{name}/execute", json={"input": given})
        return answer.status_code, answer.json()

    adding = "INSERT INTO orders SELECT number, :total, :user_id, now() FROM numbers(:count)"
    reading = "SELECT id, total FROM orders WHERE owner = :user_id ORDER BY id"
    await make_query(context, user, shop, adding, name="add", operation=QueryOperation.WRITE)
    await make_query(context, user, shop, reading, name="mine", max_rows=2)
    await make_query(context, user, shop, adding, name="sly")
    sleeping = "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_block_size = 1"
    endless = "SELECT max(number) FROM system.numbers"
    await make_query(context, user, shop, endless, name="slow", timeout_ms=100)
    await make_query(context, user, shop, sleeping, name="settings")
    status, added = await execute("add", total="1.50", count=3, user_id="somebody else")
    # The materialized view got them, too.
    assert (status, added["affected_rows"], added["data"]) == (200, 6, None)
    status, mine = await execute("mine")
    assert (status, mine["truncated"]) == (200, True)
    assert mine["data"] == [{"id": 0, "total": "1.50"}, {"id": 1, "total": "1.50"}]
    status, refused = await execute("sly", total=None, count=1)
    assert (status, "readonly mode" in refused["detail"]) == (400, True)
    status, refused = await execute("settings")
    assert (status, "SETTINGS" in refused["detail"]) == (400, True)
    assert (await execute("slow"))[0] == 504


async def test_an_agent_is_shown_its_tables(
    context: AppContext, as_: SignIn, shop: DatabaseConnection
) -> None:
    user = await as_.user("admin")
    listing: Any = {"name": "databaseIntrospection", "connections": ["shop"]}
    agent = await make_agent(context, user, system_tools=[listing])
    principal = await context.authenticator.by_user(user.id)
    turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
    async with context.statement_sessions() as session:
        offered = await IntrospectionTools(context).offer(agent, turn, session)
    tools = {tool.name: tool for tool in offered}
    listed = await tools["sinas_db_list_tables"].run(
        Call(key="k", call_id="c", arguments={"connectionName": "shop"})
    )
    assert isinstance(listed, Ok)
    assert "orders" in str(listed.value)
