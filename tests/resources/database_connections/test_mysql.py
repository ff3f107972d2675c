"""MySQL over HTTP: the connection, what is in it, and queries on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.databases.base import Limits, Statement
from sinas.models import DatabaseConnection, QueryOperation
from sinas.resources.database_connections.targets import any_target_of
from sinas.resources.database_connections.tools import IntrospectionTools
from sinas.resources.queries.tools import QueryTools
from sinas.tools.base import Call, Ok, ToolContext
from tests.factories.chats import make_agent
from tests.factories.databases import make_connection, make_query
from tests.support.mariadb import DATABASE, PASSWORD

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.mariadb import MariaDB

pytestmark = pytest.mark.mariadb

MUCH = "repeat('x', 10000000)"
PATH = "/api/v1/database-connections"
TABLES = (
    "DROP TABLE IF EXISTS orders, customers",
    """CREATE TABLE customers (
        id int unsigned PRIMARY KEY AUTO_INCREMENT, email varchar(90) NOT NULL UNIQUE,
        state enum('new', 'old') DEFAULT 'new', seen timestamp NULL,
        CONSTRAINT `CONSTRAINT_1` CHECK (email <> ''))""",
    """CREATE TABLE orders (
        shop int, number int, customer int unsigned, total decimal(8,2) NOT NULL DEFAULT 0,
        PRIMARY KEY (number, shop), KEY by_total (total, shop),
        CONSTRAINT whose FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE,
        CONSTRAINT `CONSTRAINT_1` CHECK (total >= 0))""",
    "CREATE OR REPLACE VIEW spent AS SELECT customer, sum(total) AS total FROM orders GROUP BY 1",
    "INSERT INTO customers (email) VALUES ('a@example.com'), ('b@example.com')",
    "INSERT INTO orders (shop, number, customer, total) VALUES (1, 1, 1, 9.50), (1, 2, 1, 1)",
)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def shop(context: AppContext, mariadb: MariaDB) -> DatabaseConnection:
    row = await make_connection(
        context,
        name="shop",
        connection_type="mysql",
        host="127.0.0.1",
        port=mariadb.port,
        database=DATABASE,
        username="app",
        password=PASSWORD,
    )
    async with context.databases.database(any_target_of(row, context.cipher)) as database:
        await database.write([Statement(text) for text in TABLES], Limits())
    return row


async def test_a_connection_is_made_tried_and_found_wanting(
    admin: httpx.AsyncClient, mariadb: MariaDB
) -> None:
    new = {
        "name": "mine",
        "connection_type": "mysql",
        "host": "127.0.0.1",
        "port": mariadb.port,
        "database": DATABASE,
        "username": "encrypted",
        "password": PASSWORD,
        "ssl_mode": "verify-full",
    }
    created = (await admin.post(PATH, json=new)).json()
    untrusted = (await admin.post(f"{PATH}/{created['id']}/test")).json()
    assert untrusted["success"] is False
    assert "certificate" in untrusted["message"]
    config = {"config": {"ssl_ca": mariadb.authority}}
    await admin.patch(f"{PATH}/{created['id']}", json=config)
    trusted = (await admin.post(f"{PATH}/{created['id']}/test")).json()
    assert (trusted["success"], trusted["message"]) == (True, "Connected.")
    del new["name"]
    mighty = await admin.post(f"{PATH}/test", json=new | {"username": "mighty", "ssl_mode": None})
    assert "FILE" in mighty.json()["message"]
    wrong = await admin.post(f"{PATH}/test", json=new | {"password": "x", "ssl_mode": "prefer"})
    assert wrong.json()["success"] is False
    assert f"127.0.0.1 port {mariadb.port}" in wrong.json()["message"]


async def test_what_is_in_it(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    assert (await admin.get(f"{PATH}/shop/schemas")).json() == [{"schema_name": DATABASE}]
    tables = (await admin.get(f"{PATH}/shop/tables")).json()
    kinds = {each["table_name"]: each["table_type"] for each in tables}
    assert kinds["orders"] == "BASE TABLE"
    assert kinds["spent"] == "VIEW"
    sizes = [each[key] for each in tables for key in ("size_bytes", "estimated_rows")]
    assert {type(each) for each in sizes} == {int}
    views = (await admin.get(f"{PATH}/shop/views", params={"schema": DATABASE})).json()
    assert "sum(" in views[0]["view_definition"]
    assert (await admin.get(f"{PATH}/shop/tables/nowhere")).status_code == 404


async def test_a_table_with_everything(admin: httpx.AsyncClient, shop: DatabaseConnection) -> None:
    orders = (await admin.get(f"{PATH}/shop/tables/orders")).json()
    assert orders["columns"][3] == {
        "column_name": "total",
        "data_type": "decimal",
        "udt_name": "decimal(8,2)",
        "is_nullable": "NO",
        "column_default": "0.00",
        "character_maximum_length": None,
        "numeric_precision": 8,
        "numeric_scale": 2,
        "ordinal_position": 4,
        "is_primary_key": False,
        "display_name": None,
        "description": None,
    }
    found = {each["constraint_name"]: each for each in orders["constraints"]}
    assert found["PRIMARY"]["columns"] == ["number", "shop"]
    assert found["whose"] == {
        "constraint_name": "whose",
        "constraint_type": "FOREIGN KEY",
        "columns": ["customer"],
        "definition": "FOREIGN KEY (customer) REFERENCES shop.customers (id) "
        "ON UPDATE RESTRICT ON DELETE CASCADE",
        "ref_schema": DATABASE,
        "ref_table": "customers",
        "ref_columns": ["id"],
    }
    # Another table has one of this name.
    assert found["CONSTRAINT_1"]["definition"] == "CHECK (`total` >= 0)"
    indexes = {each["index_name"]: each["definition"] for each in orders["indexes"]}
    assert indexes["PRIMARY"] == "UNIQUE BTREE (number, shop)"
    assert indexes["by_total"] == "BTREE (total, shop)"
    customers = (await admin.get(f"{PATH}/shop/tables/customers")).json()
    columns = {each["column_name"]: each for each in customers["columns"]}
    assert columns["state"]["udt_name"] == "enum('new','old')"
    assert (columns["id"]["is_primary_key"], columns["seen"]["is_nullable"]) == (True, "YES")


async def execute(client: httpx.AsyncClient, name: str, **given: Any) -> httpx.Response:
    return await client.post(
        f"/queries/default/{name}/execute",
        content=json.dumps({"input": given}),
        headers={"Content-Type": "application/json"},
    )


async def test_queries(admin: httpx.AsyncClient, as_: SignIn, shop: DatabaseConnection) -> None:
    """Saved and run over HTTP, with what only this kind of database reads as one statement."""
    user = await as_.user("admin")
    base = {"database_connection_id": str(shop.id), "namespace": "default"}
    read = {
        "name": "reading",
        "operation": "read",
        "sql": "SELECT number, total, 'it\\'s; :x' AS `a:b`, :user_id AS me FROM orders # ; :y\n"
        "WHERE customer = :customer ORDER BY number",
        "max_rows": 1,
    }
    saved = await admin.post("/api/v1/queries", json=base | read)
    assert saved.status_code == 201, saved.text
    answer = await execute(admin, "reading", customer=1, user_id="somebody else")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    row = {"number": 1, "total": "9.50", "a:b": "it's; :x", "me": str(user.id)}
    assert (body["data"], body["row_count"], body["truncated"]) == ([row], 1, True)
    write = {
        "name": "writing",
        "operation": "write",
        "sql": "UPDATE orders SET total = :total WHERE customer = :customer",
    }
    assert (await admin.post("/api/v1/queries", json=base | write)).status_code == 201
    done = (await execute(admin, "writing", customer=1, total="7.25")).json()
    assert (done["affected_rows"], done["data"]) == (2, None)
    evil = (await execute(admin, "writing", customer="0 OR 1 = 1", total=0)).json()
    assert evil["affected_rows"] == 0
    assert (await execute(admin, "reading", customer=1)).json()["data"][0]["total"] == "7.25"


@pytest.mark.parametrize(
    ("sql", "given", "status"),
    [
        ("SELECT nonsense FROM nowhere", {}, 400),
        ("DELETE FROM orders", {}, 400),
        ("CALL writes()", {}, 400),
        ("SELECT :n AS n", {"n": "\ud800"}, 400),
        ("SELECT :n AS n", {"n": 10**400}, 400),
        ("SELECT * FROM orders LIMIT :n", {"n": "many"}, 400),
        (f"SELECT {', '.join(4 * [MUCH])}", {}, 400),
        ("SELECT SLEEP(20)", {}, 504),
    ],
)
async def test_what_fails_is_never_a_500(
    context: AppContext,
    admin: httpx.AsyncClient,
    as_: SignIn,
    shop: DatabaseConnection,
    sql: str,
    given: dict[str, Any],
    status: int,
) -> None:
    await make_query(context, await as_.user("admin"), shop, sql, name="q", timeout_ms=300)
    answer = await execute(admin, "q", **given)
    assert (answer.status_code, len(answer.json()["detail"]) > 9) == (status, True)


async def test_a_server_that_is_gone_is_a_502(
    context: AppContext, admin: httpx.AsyncClient, as_: SignIn
) -> None:
    gone = await make_connection(
        context, connection_type="mysql", host="127.0.0.1", port=1, password=PASSWORD
    )
    await make_query(context, await as_.user("admin"), gone, "SELECT 1", name="q")
    answer = await execute(admin, "q")
    assert (answer.status_code, "127.0.0.1" in answer.text) == (502, False)


async def test_a_read_only_connection_refuses_a_write(
    context: AppContext, admin: httpx.AsyncClient, as_: SignIn, shop: DatabaseConnection
) -> None:
    await admin.patch(f"{PATH}/{shop.id}", json={"read_only": True})
    write = QueryOperation.WRITE
    user = await as_.user("admin")
    await make_query(context, user, shop, "DELETE FROM orders", name="w", operation=write)
    assert (await execute(admin, "w")).status_code == 403


async def test_tools_of_agents(context: AppContext, as_: SignIn, shop: DatabaseConnection) -> None:
    user = await as_.user("admin")
    sql = "SELECT 'it\\'s :no' AS said, total FROM orders WHERE number = :number"
    await make_query(context, user, shop, sql, name="q")
    agent = await make_agent(
        context,
        user,
        enabled_queries=["default/q"],
        system_tools=[{"name": "databaseIntrospection", "connections": ["shop"]}],
    )
    principal = await context.authenticator.by_user(user.id)
    turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
    async with context.statement_sessions() as session:
        offered = [
            *await IntrospectionTools(context).offer(agent, turn, session),
            *await QueryTools(context).offer(agent, turn, session),
        ]
    tools = {tool.name: tool for tool in offered}

    async def ran(name: str, **arguments: Any) -> Any:
        outcome = await tools[name].run(Call(key="k", call_id="c", arguments=arguments))
        assert isinstance(outcome, Ok), outcome
        return outcome.value

    listed = await ran("sinas_db_list_tables", connectionName="shop")
    assert "orders" in {each["table"] for each in listed["tables"]}
    described = await ran("sinas_db_describe_table", connectionName="shop", table="orders")
    assert described["schema"] == DATABASE
    query = tools["query_default__q"]
    assert query.parameters["properties"] == {"number": {}}
    assert "9.50" in str(await ran("query_default__q", number=1))
