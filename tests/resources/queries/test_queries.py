"""Executing queries over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from sinas.databases.base import Limits, Statement
from sinas.models import DatabaseConnection, QueryOperation
from sinas.resources.database_connections.targets import any_target_of
from sinas.resources.queries.executing import Executor
from sinas.resources.queries.schemas import QueryExecute
from tests.factories.databases import make_connection, make_query
from tests.factories.identity import make_role, make_user

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn


@pytest.fixture
async def connection(context: AppContext) -> DatabaseConnection:
    return await make_connection(context)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


async def execute(client: httpx.AsyncClient, name: str, **given: Any) -> httpx.Response:
    return await client.post(f"/queries/default/{name}/execute", json={"input": given})


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_rows_of_a_read(
    context: AppContext,
    as_: SignIn,
    admin: httpx.AsyncClient,
    connection: DatabaseConnection,
    prefix: str,
) -> None:
    sql = "SELECT n, :word AS word FROM generate_series(1, :last::int) AS n"
    await make_query(context, await as_.user("admin"), connection, sql, name="q", max_rows=2)
    answer = await admin.post(
        f"{prefix}/queries/default/q/execute", json={"input": {"word": "w", "last": 3}}
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.pop("duration_ms") >= 0
    assert body == {
        "success": True,
        "operation": "read",
        "data": [{"n": 1, "word": "w"}, {"n": 2, "word": "w"}],
        "row_count": 2,
        "affected_rows": None,
        "truncated": True,
    }


async def test_who_calls_is_never_what_the_input_says(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, connection: DatabaseConnection
) -> None:
    user = await as_.user("admin")
    strict = {"type": "object", "properties": {}, "additionalProperties": False}
    await make_query(
        context,
        user,
        connection,
        "SELECT :user_id::uuid AS id, :user_email AS email",
        name="me",
        input_schema=strict,
    )
    answer = await execute(admin, "me", user_id="other", user_email="other@example.com")
    assert answer.json()["data"] == [{"id": str(user.id), "email": user.email}]


async def test_a_write_tells_what_it_changed(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, connection: DatabaseConnection
) -> None:
    user = await as_.user("admin")
    write = QueryOperation.WRITE
    sql = "UPDATE users SET email = email WHERE id = :user_id"
    await make_query(context, user, connection, sql, name="w", operation=write)
    await make_query(context, user, connection, f"{sql} RETURNING email", name="r", operation=write)
    plain, returning = [(await execute(admin, name)).json() for name in ("w", "r")]
    assert (plain["affected_rows"], plain["data"], plain["row_count"]) == (1, None, None)
    assert (returning["affected_rows"], returning["data"]) == (1, [{"email": user.email}])


async def test_a_read_only_connection_refuses_a_write(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient
) -> None:
    reading = await make_connection(context, read_only=True)
    await make_query(
        context,
        await as_.user("admin"),
        reading,
        "DELETE FROM users",
        name="w",
        operation=QueryOperation.WRITE,
    )
    assert (await execute(admin, "w")).status_code == 403


@pytest.mark.parametrize(
    ("sql", "given", "status"),
    [
        ("SELECT nonsense FROM nowhere", {}, 400),
        ("DELETE FROM users", {}, 400),
        ("SELECT :n::int AS n", {"n": "many"}, 400),
        ("SELECT :n::text AS n", {"n": "\ud800"}, 400),
        ("SELECT :n::text AS n", {"n": "a\x00b"}, 400),
        ("SELECT :n::numeric AS n", {"n": 10**400}, 400),
        ("SELECT 1 / :n::int AS n", {"n": 0}, 400),
        ("SELECT pg_sleep(20)", {}, 504),
    ],
)
async def test_what_fails_is_never_a_500(
    context: AppContext,
    as_: SignIn,
    admin: httpx.AsyncClient,
    connection: DatabaseConnection,
    sql: str,
    given: dict[str, Any],
    status: int,
) -> None:
    user = await as_.user("admin")
    await make_query(context, user, connection, sql, name="q", timeout_ms=200)
    answer = await admin.post(
        "/queries/default/q/execute",
        content=json.dumps({"input": given}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == status, answer.text


async def test_schemas_of_input_and_output(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, connection: DatabaseConnection
) -> None:
    row = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}}
    schema = {**row, "required": ["n"]}
    user = await as_.user("admin")
    for name, output in (("row", row), ("all", {"type": "array", "items": row})):
        await make_query(
            context,
            user,
            connection,
            "SELECT :n::int * 2 AS n",
            name=name,
            input_schema=schema,
            output_schema=output,
        )
        assert (await execute(admin, name, n=2)).json()["data"] == [{"n": 4}]
        missing, broken = await execute(admin, name), await execute(admin, name, n=4)
        assert missing.status_code == 400
        assert missing.json()["detail"].startswith("Input validation error:")
        assert (broken.status_code, "output_schema" in broken.json()["detail"]) == (400, True)


async def test_where_a_database_is_stays_with_admins(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient
) -> None:
    down = await make_connection(context, host="127.0.0.1", port=1, username="keeper")
    await make_query(context, await as_.user("admin"), down, "SELECT 1", name="q")
    answer = await execute(admin, "q")
    assert answer.status_code == 502
    assert "127.0.0.1" not in answer.text
    assert "keeper" not in answer.text


async def test_rights(context: AppContext, as_: SignIn, connection: DatabaseConnection) -> None:
    """Users read their own by default, and execute none until a role lets them."""
    owner = await as_.user("owner")
    await make_query(context, owner, connection, "SELECT 1 AS one", name="q")
    plain, other = await as_("owner"), await as_("other")
    assert (await execute(plain, "q")).status_code == 403
    role = await make_role(context, ["sinas.queries/default/*.execute:own"])
    user = await make_user(context, roles=[role.name])
    await make_query(context, user, connection, "SELECT 2 AS two", name="own")
    granted = await as_(user)
    assert (await execute(granted, "own")).json()["data"] == [{"two": 2}]
    # Of another owner: not even that it is there.
    assert (await execute(granted, "q")).status_code == 404
    assert (await execute(granted, "nowhere")).status_code == 404
    assert (await execute(other, "q")).status_code == 403


async def test_a_client_who_leaves_takes_the_statement_along(
    context: AppContext, as_: SignIn, connection: DatabaseConnection
) -> None:
    """Executed as a server would: the request's `receive` says that the client is gone."""
    admin = await as_.user("admin")
    await make_query(context, admin, connection, "SELECT pg_sleep(28)", name="q", timeout_ms=30_000)
    principal = await context.authenticator.by_user(admin.id)
    reading = any_target_of(connection, context.cipher)
    count = Statement(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = :q",
        {"q": "SELECT pg_sleep(28)"},
    )

    async def running() -> int:
        async with context.databases.database(reading) as database:
            return int((await database.read(count, Limits())).rows[0][0])

    async def receive() -> dict[str, Any]:
        while not await running():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "headers": []}, receive)
    answer = await Executor(request, context, principal).run("default", "q", QueryExecute())
    assert answer.status_code == 499
    assert await running() == 0


async def test_what_is_switched_off_or_gone(
    context: AppContext, as_: SignIn, admin: httpx.AsyncClient, connection: DatabaseConnection
) -> None:
    await make_query(context, await as_.user("admin"), connection, "SELECT 1", name="q")
    path = f"/api/v1/database-connections/{connection.id}"
    await admin.patch(path, json={"is_active": False})
    assert (await execute(admin, "q")).status_code == 409
    await admin.patch(path, json={"is_active": True})
    await admin.put("/api/v1/queries/default/q", json={"is_active": False})
    assert (await execute(admin, "q")).status_code == 404
    await admin.put("/api/v1/queries/default/q", json={"is_active": True})
    assert (await execute(admin, "q")).status_code == 200
    await admin.delete(path)
    gone = await execute(admin, "q")
    assert (gone.status_code, "was deleted" in gone.json()["detail"]) == (404, True)


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "COMMIT", "-- nothing"])
async def test_what_could_never_run_is_not_saved(
    admin: httpx.AsyncClient, connection: DatabaseConnection, sql: str
) -> None:
    body = {
        "name": "q",
        "database_connection_id": str(connection.id),
        "operation": "read",
        "sql": sql,
    }
    assert (await admin.post("/api/v1/queries", json=body)).status_code == 400
