"""The built-in database: it works like any other, and its role reaches nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import make_url, select, update

from sinas.db.engine import open_engine
from sinas.kit.crypto import Cipher
from sinas.models import DatabaseConnection
from sinas.resources.database_connections.seed import address_of
from sinas.seed import seed
from tests.factories.databases import make_connection
from tests.fixtures.configuration import changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

PATH = "/api/v1/database-connections"


@pytest.fixture
async def enabled(context: AppContext) -> AsyncIterator[AppContext]:
    """As `context`, of an installation that has a built-in database; none is made yet."""
    settings = changed(context.settings, database={"builtin_enabled": True})
    try:
        yield dataclasses.replace(context, settings=settings)
    finally:
        for row in await builtin(context):
            await context.databases.forget(row.id)
        await drop(context)


async def drop(context: AppContext) -> None:
    name = f"{make_url(context.settings.database.url).database}_data"
    await execute(context, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await execute(context, f'DROP ROLE IF EXISTS "{name}"')
    own = make_url(context.settings.database.url).database
    await execute(context, f'GRANT CONNECT ON DATABASE "{own}" TO PUBLIC')


async def execute(context: AppContext, statement: str) -> None:
    async with context.autocommit.connect() as connection:
        await connection.exec_driver_sql(statement)


async def asked(context: AppContext, statement: str) -> Any:
    async with context.autocommit.connect() as connection:
        return (await connection.exec_driver_sql(statement)).scalar_one()


async def builtin(context: AppContext) -> list[DatabaseConnection]:
    async with context.unit() as unit:
        return list(
            await unit.session.scalars(
                select(DatabaseConnection).where(DatabaseConnection.name == "built-in")
            )
        )


async def sign_in(
    context: AppContext, database: str | None = None, password: str | None = None
) -> asyncpg.Connection:
    """Connect as the role itself does, past Sinas."""
    [row] = await builtin(context)
    return await asyncpg.connect(
        host=row.host,
        port=row.port,
        user=row.username,
        database=database or row.database,
        password=password or context.cipher.decrypt(row.password_encrypted or ""),
    )


@pytest.fixture
async def admin(enabled: AppContext, as_: SignIn) -> httpx.AsyncClient:
    await seed(enabled)
    return await as_("admin")


async def test_it_holds_tables_rows_and_what_queries_write(
    admin: httpx.AsyncClient, context: AppContext
) -> None:
    [shown] = (await admin.get(PATH)).json()
    own = make_url(context.settings.database.url).database
    assert (shown["name"], shown["database"]) == ("built-in", f"{own}_data")
    assert "password" not in str(shown)
    tried = (await admin.post(f"{PATH}/{shown['id']}/test")).json()
    assert (tried["success"], tried["message"]) == (True, "Connected.")

    table = {"table_name": "t", "columns": [{"name": "id", "type": "integer"}]}
    made = await admin.post(f"{PATH}/built-in/tables", json=table)
    assert made.status_code == 201, made.text
    rows = await admin.post(f"{PATH}/built-in/tables/t/rows", json={"rows": [{"id": 1}]})
    assert rows.json()["count"] == 1
    assert [t["table_name"] for t in (await admin.get(f"{PATH}/built-in/tables")).json()] == ["t"]

    written = await run(admin, "INSERT INTO t VALUES (2)")
    assert written.json()["affected_rows"] == 1, written.text
    read = await run(admin, "SELECT id FROM t ORDER BY id", operation="read")
    assert read.json()["data"] == [{"id": 1}, {"id": 2}]


async def run(admin: httpx.AsyncClient, sql: str, *, operation: str = "write") -> httpx.Response:
    """What a query with this SQL answers."""
    connection = (await admin.get(f"{PATH}/built-in")).json()["id"]
    name = f"q_{operation}"
    body = {
        "namespace": "default",
        "name": name,
        "database_connection_id": connection,
        "operation": operation,
        "sql": sql,
    }
    made = await admin.post("/api/v1/queries", json=body)
    assert made.status_code in (200, 201), made.text
    try:
        return await admin.post(f"/queries/default/{name}/execute", json={"input": {}})
    finally:
        await admin.delete(f"/api/v1/queries/default/{name}")


# Each is refused for want of a right, by the server.
ESCAPES = [
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "CREATE TABLE leak (line text); COPY leak FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/sinas-builtin-escape'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEDB",
    "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
    "SET ROLE pg_read_server_files",
    "GRANT pg_execute_server_program TO CURRENT_USER",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
    "LOAD '/tmp/x.so'",
    "ALTER SYSTEM SET listen_addresses = '*'",
    "SET session_preload_libraries = 'x'",
    "SELECT pg_reload_conf()",
    "SELECT pg_create_physical_replication_slot('x')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=/tmp' PUBLICATION p",
]


async def test_its_role_cannot_leave_its_database(
    admin: httpx.AsyncClient, context: AppContext
) -> None:
    connection = await sign_in(context)
    outcomes = {}
    try:
        for statement in ESCAPES:
            try:
                outcomes[statement] = await connection.execute(statement)
            except asyncpg.PostgresError as error:
                outcomes[statement] = error.sqlstate or ""
    finally:
        await connection.close()
    wanted = dict.fromkeys(ESCAPES, asyncpg.InsufficientPrivilegeError.sqlstate)
    for statement, outcome in outcomes.items():
        # The wheel's server does not come with these extensions, others do.
        if "EXTENSION" in statement and outcome == asyncpg.FeatureNotSupportedError.sqlstate:
            wanted[statement] = outcome
    assert outcomes == wanted


async def test_a_query_cannot_leave_it_in_a_block(admin: httpx.AsyncClient) -> None:
    """What the check of a statement's first word does not see."""
    for inner in ("CREATE ROLE another", "COPY (SELECT 1) TO PROGRAM 'true'", "SET ROLE postgres"):
        answer = await run(admin, f"DO $$ BEGIN EXECUTE $s${inner}$s$; END $$")
        assert answer.status_code == 400, (inner, answer.text)
        assert answer.json()["code"] == "database_statement_refused"


async def test_its_role_reaches_no_table_of_sinas(
    admin: httpx.AsyncClient, context: AppContext
) -> None:
    own = make_url(context.settings.database.url).database
    with pytest.raises(asyncpg.PostgresError):
        await sign_in(context, database=own)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await sign_in(context, password="guessed")
    seen = await run(admin, "SELECT 1 FROM users", operation="read")
    assert seen.status_code == 400
    others = "SELECT count(*) AS n FROM pg_database WHERE has_database_privilege(datname, 'CREATE')"
    assert (await run(admin, others, operation="read")).json()["data"] == [{"n": 1}]
    # The second is what PostgreSQL calls the owner of whatever database this is.
    member = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') ORDER BY oid"
    roles = [
        each["rolname"] for each in (await run(admin, member, operation="read")).json()["data"]
    ]
    assert roles == ["pg_database_owner", f"{own}_data"]
    rights = f"has_database_privilege('{own}_data', '{own}', 'CONNECT, CREATE, TEMPORARY')"
    assert not await asked(context, f"SELECT {rights}")


CHANGES: list[dict[str, object]] = [
    {"username": "postgres"},
    {"username": "postgres", "password": "x"},
    {"database": "sinas"},
    {"host": "evil.example.com", "password": "x"},
    {"port": 1, "password": "x"},
    {"password": "x"},
    {"name": "mine"},
    {"connection_type": "clickhouse", "password": "x"},
    {"ssl_mode": "require"},
]


async def test_where_it_leads_stays(admin: httpx.AsyncClient, context: AppContext) -> None:
    [before] = await builtin(context)
    for change in CHANGES:
        refused = await admin.patch(f"{PATH}/{before.id}", json=change | {"is_active": False})
        assert refused.status_code == 409, change
        assert refused.json()["code"] == "database_connection_managed"
        assert next(iter(change)) in refused.json()["detail"]
    [after] = await builtin(context)
    assert after.updated_at == before.updated_at
    assert after.is_active


async def test_it_cannot_be_deleted_but_switched_off(
    admin: httpx.AsyncClient, enabled: AppContext
) -> None:
    [row] = await builtin(enabled)
    refused = await admin.delete(f"{PATH}/{row.id}")
    assert refused.status_code == 409
    assert "is_active" in refused.json()["detail"]
    changes = {"is_active": False, "read_only": True, "name": "built-in"}
    assert (await admin.patch(f"{PATH}/{row.id}", json=changes)).status_code == 200
    await seed(enabled)
    shown = (await admin.get(f"{PATH}/built-in")).json()
    assert (shown["is_active"], shown["read_only"]) == (False, True)
    assert (await admin.get(f"{PATH}/built-in/tables")).status_code == 409


async def test_processes_that_start_together_make_one(enabled: AppContext) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(seed(enabled))
    assert len(await builtin(enabled)) == 1
    await (await sign_in(enabled)).close()


async def test_a_later_start_asks_once_and_changes_nothing(
    enabled: AppContext, context: AppContext, query_counter: QueryCounter
) -> None:
    await seed(enabled)
    [before] = await builtin(context)
    with query_counter() as without:
        await seed(context)
    with query_counter() as queries:
        await seed(enabled)
    assert queries.count == without.count + 1, queries.statements
    [after] = await builtin(context)
    assert after.updated_at == before.updated_at
    await (await sign_in(context)).close()


async def test_what_is_missing_comes_back(enabled: AppContext) -> None:
    await seed(enabled)
    await drop(enabled)
    await seed(enabled)
    await (await sign_in(enabled)).close()
    # Kept under another ENCRYPTION_KEY: the role gets a new password.
    other = Cipher("b3RoZXItZW5jcnlwdC13aXRoLXRoaXMta2V5LTAxMjM=")
    async with enabled.unit() as unit:
        await unit.session.execute(
            update(DatabaseConnection).values(
                password_encrypted=other.encrypt("lost"), host="moved.example.com"
            )
        )
    await seed(enabled)
    await (await sign_in(enabled)).close()
    # The role survived its row, as after restoring Sinas' database from a backup.
    async with enabled.unit() as unit:
        await unit.session.delete((await builtin(enabled))[0])
    await seed(enabled)
    await (await sign_in(enabled)).close()


async def test_what_is_somebody_elses_is_left_alone(enabled: AppContext) -> None:
    name = f"{make_url(enabled.settings.database.url).database}_data"
    await execute(enabled, f'CREATE ROLE "{name}" SUPERUSER')
    await seed(enabled)
    assert await builtin(enabled) == []
    await execute(enabled, f'DROP ROLE "{name}"')
    await execute(enabled, f'CREATE DATABASE "{name}"')
    await seed(enabled)
    assert await builtin(enabled) == []
    await drop(enabled)
    mine = await make_connection(enabled, name="built-in")
    await seed(enabled)
    [row] = await builtin(enabled)
    assert (row.id, row.managed_by, row.username) == (mine.id, None, mine.username)


@pytest.mark.parametrize("may", [True, False])
async def test_a_role_of_sinas_that_is_no_superuser(enabled: AppContext, may: bool) -> None:
    """With the rights it makes the database; without them Sinas starts and has none."""
    url = make_url(enabled.settings.database.url)
    role = f"{url.database}_sinas"
    rights = "CREATEDB CREATEROLE" if may else "NOCREATEDB"
    await execute(enabled, f"CREATE ROLE \"{role}\" LOGIN {rights} PASSWORD 'p'")
    owner = url.username
    assert owner
    name = url.database
    try:
        await execute(enabled, f'ALTER DATABASE "{name}" OWNER TO "{role}"')
        await execute(enabled, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
        # Not signing in: the server of the tests lets its superuser in only.
        engine = open_engine(enabled.settings.database)
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(f'SET SESSION AUTHORIZATION "{role}"')
                await connection.commit()
                raw = await connection.get_raw_connection()
                await made_by(raw.driver_connection, may=may)
        finally:
            await engine.dispose()
    finally:
        await drop(enabled)
        await execute(enabled, f'ALTER DATABASE "{name}" OWNER TO "{owner}"')
        await execute(enabled, f'DROP OWNED BY "{role}"')
        await execute(enabled, f'DROP ROLE "{role}"')


async def made_by(connection: object, *, may: bool) -> None:
    from sinas.databases.builtin import BuiltinRefusedError, make_builtin

    assert isinstance(connection, asyncpg.Connection)
    if not may:
        with pytest.raises(BuiltinRefusedError, match="CREATEDB"):
            await make_builtin(connection, "x")
        return
    made = await make_builtin(connection, "first")
    again = await make_builtin(connection, "second")
    assert made == again
    members = (
        "SELECT count(*) FROM pg_roles r WHERE r.rolname = $1 AND (r.rolsuper OR r.rolcreatedb)"
    )
    assert await connection.fetchval(members, made.name) == 0


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://u:p@db/sinas", ("db", 5432, "prefer")),
        ("postgresql://u@db:6000/sinas?sslmode=verify-full", ("db", 6000, "verify-full")),
        ("postgresql://u@/sinas?host=/run/pg&port=6000", ("/run/pg", 6000, "prefer")),
        ("postgresql://u@/sinas?host=a:6000&host=b:6001", ("a", 6000, "prefer")),
        ("postgresql://u@/sinas?host=a:6000,b:6001&ssl=odd", ("a", 6000, "prefer")),
        ("postgresql://u@/sinas?host=::1", ("::1", 5432, "prefer")),
        ("postgresql://u@/sinas?host=a&port=x", None),
        ("postgresql:///sinas", None),
    ],
)
def test_it_is_where_sinas_own_database_is(url: str, address: tuple[str, int, str] | None) -> None:
    assert address_of(make_url(url)) == address
