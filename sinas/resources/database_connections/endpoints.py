"""Management operations of database connections."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.kit.json_types import JsonObject
from sinas.models import DatabaseAnnotation, DatabaseConnection
from sinas.resources.database_connections.browsing import Browser
from sinas.resources.database_connections.catalog_schemas import (
    SchemaInfo,
    TableDetail,
    TableInfo,
    ViewInfo,
)
from sinas.resources.database_connections.changing import Changer, parsed_filters
from sinas.resources.database_connections.schemas import (
    Annotation,
    Annotations,
    DatabaseConnectionCreate,
    DatabaseConnectionRead,
    DatabaseConnectionTest,
    DatabaseConnectionUpdate,
    TestOutcome,
    Upserted,
)
from sinas.resources.database_connections.service import DatabaseConnectionService
from sinas.resources.database_connections.table_schemas import (
    Affected,
    Inserted,
    RowsDelete,
    RowsInsert,
    RowsPage,
    RowsUpdate,
    TableCreate,
    TableUpdate,
    ViewCreate,
)
from sinas.resources.database_connections.targets import any_target_of
from sinas.resources.database_connections.trying import target_to_try, try_target
from sinas.web.deps import CREDENTIALS, Caller, Context, InUnit, permitted_everywhere
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/database-connections",
    tags=["database-connections"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)


def _for(action: str) -> Callable[..., Awaitable[DatabaseConnectionService]]:
    check = permitted_everywhere("database_connections", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> DatabaseConnectionService:
        return DatabaseConnectionService(unit, principal, context.cipher)

    return build


def _may(action: str) -> Any:
    return Depends(permitted_everywhere("database_connections", action))


Create = Annotated[DatabaseConnectionService, Depends(_for("create"))]
Read = Annotated[DatabaseConnectionService, Depends(_for("read"))]
Update = Annotated[DatabaseConnectionService, Depends(_for("update"))]
Delete = Annotated[DatabaseConnectionService, Depends(_for("delete"))]
Schema = Annotated[DatabaseConnectionService, Depends(_for("schema"))]
SchemaName = Annotated[str, Query(alias="schema", max_length=63)]
AnySchema = Annotated[
    str | None,
    Query(
        alias="schema",
        min_length=1,
        max_length=255,
        description="`public` where none is given; of MySQL and ClickHouse the connection's "
        "database, of Snowflake `PUBLIC`.",
    ),
]


class Changers:
    """Changes databases for one caller; each operation says which permission it needs."""

    def __init__(self, context: Context, principal: Caller) -> None:
        self._context = context
        self.principal = principal

    async def of(self, name: str) -> Changer:
        """A changer of one connection's database; no unit is open while that answers."""
        async with self._context.statement_unit() as unit:
            service = DatabaseConnectionService(unit, self.principal, self._context.cipher)
            return Changer(self._context.databases, service.target(await service.by_name(name)))


Changing = Annotated[Changers, Depends()]


class Browsers:
    """Looks into databases for one caller, who may."""

    def __init__(self, context: Context, principal: Annotated[Principal, _may("schema")]) -> None:
        self._context = context
        self._principal = principal

    async def of(self, name: str) -> Browser:
        """A browser of one connection's database; no unit is open while that answers."""
        async with self._context.statement_unit() as unit:
            service = DatabaseConnectionService(unit, self._principal, self._context.cipher)
            row = await service.by_name(name)
            said = await service.annotations(name)
            return Browser(self._context.databases, service.target(row), said)


Browsing = Annotated[Browsers, Depends()]


@router.post("", status_code=201, response_model=DatabaseConnectionRead)
async def create_database_connection(
    data: DatabaseConnectionCreate, connections: Create
) -> DatabaseConnection:
    """Add a connection. Its password is stored encrypted and never returned."""
    return await connections.create(data)


@router.get("", response_model=list[DatabaseConnectionRead])
async def list_database_connections(
    connections: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[DatabaseConnection]:
    """List connections by name."""
    return await connections.page(skip=skip, limit=limit)


@router.post("/test", dependencies=[_may("create")])
async def test_database(data: DatabaseConnectionTest, context: Context) -> TestOutcome:
    """Try to connect without keeping anything. What went wrong is in `message`."""
    return await try_target(context.databases, target_to_try(data))


@router.get("/{name}", response_model=DatabaseConnectionRead)
async def get_database_connection(name: str, connections: Read) -> DatabaseConnection:
    """Get one connection."""
    return await connections.by_name(name)


@router.patch("/{connection_id}", response_model=DatabaseConnectionRead)
async def update_database_connection(
    connection_id: UUID, data: DatabaseConnectionUpdate, connections: Update
) -> DatabaseConnection:
    """Change a connection; fields left out stay as they are.

    Another host, port or type needs the password anew.
    """
    return await connections.update(connection_id, data)


@router.delete("/{connection_id}", status_code=204)
async def delete_database_connection(connection_id: UUID, connections: Delete) -> None:
    """Delete a connection and its password. Queries that name it fail with a clear error."""
    await connections.delete(connection_id)


@router.post("/{connection_id}/test")
async def test_database_connection(
    connection_id: UUID, context: Context, principal: Annotated[Principal, _may("read")]
) -> TestOutcome:
    """Try a stored connection, an inactive one too. What went wrong is in `message`."""
    async with context.statement_unit() as unit:
        service = DatabaseConnectionService(unit, principal, context.cipher)
        target = any_target_of(await service.by_id(connection_id), context.cipher)
    return await try_target(context.databases, target)


@router.get("/{name}/schemas", response_model=list[SchemaInfo])
async def list_schemas(name: str, browsers: Browsing) -> list[JsonObject]:
    """List the schemas that the connection's role may use."""
    return await (await browsers.of(name)).schemas()


@router.get("/{name}/tables", response_model=list[TableInfo])
async def list_tables(name: str, browsers: Browsing, schema: AnySchema = None) -> list[JsonObject]:
    """List tables and views of a schema, with sizes and annotations."""
    return await (await browsers.of(name)).tables(schema)


@router.get("/{name}/tables/{table}", response_model=TableDetail)
async def get_table(
    name: str, table: str, browsers: Browsing, schema: AnySchema = None
) -> JsonObject:
    """Get columns, constraints and indexes of a table, with annotations."""
    return await (await browsers.of(name)).table(schema, table)


@router.get("/{name}/views", response_model=list[ViewInfo])
async def list_views(name: str, browsers: Browsing, schema: AnySchema = None) -> list[JsonObject]:
    """List the views of a schema with what they select."""
    return await (await browsers.of(name)).views(schema)


@router.post(
    "/{name}/tables",
    status_code=201,
    response_model=TableDetail,
    dependencies=[_may("schema")],
)
async def create_table(
    name: str, data: TableCreate, changers: Changing, browsers: Browsing
) -> JsonObject:
    """Make a table. Types and defaults are those of a list, not any SQL."""
    await (await changers.of(name)).create_table(data)
    return await (await browsers.of(name)).table(data.schema_name, data.table_name)


@router.patch("/{name}/tables/{table}", response_model=TableDetail, dependencies=[_may("schema")])
async def update_table(
    name: str, table: str, data: TableUpdate, changers: Changing, browsers: Browsing
) -> JsonObject:
    """Drop, rename and add columns, all or none. Dropping needs `schema_destroy` besides."""
    if data.drop_columns:
        changers.principal.require("sinas.database_connections.schema_destroy:all")
    await (await changers.of(name)).alter_table(table, data)
    return await (await browsers.of(name)).table(data.schema_name, table)


@router.delete("/{name}/tables/{table}", status_code=204, dependencies=[_may("schema_destroy")])
async def drop_table(
    name: str,
    table: str,
    changers: Changing,
    schema: SchemaName = "public",
    cascade: bool = False,
) -> None:
    """Remove a table and its rows; what depends on it too with `cascade`."""
    await (await changers.of(name)).drop_table(schema, table, cascade=cascade)


@router.post("/{name}/views", status_code=201, dependencies=[_may("schema")])
async def create_view(name: str, data: ViewCreate, changers: Changing) -> dict[str, str]:
    """Make a view of a statement that reads."""
    await (await changers.of(name)).create_view(data)
    return {"view_name": data.name, "schema_name": data.schema_name}


@router.delete("/{name}/views/{view}", status_code=204, dependencies=[_may("schema_destroy")])
async def drop_view(
    name: str,
    view: str,
    changers: Changing,
    schema: SchemaName = "public",
    cascade: bool = False,
) -> None:
    """Remove a view; what depends on it too with `cascade`."""
    await (await changers.of(name)).drop_view(schema, view, cascade=cascade)


@router.get("/{name}/tables/{table}/rows", dependencies=[_may("data")])
async def list_rows(
    name: str,
    table: str,
    changers: Changing,
    schema: SchemaName = "public",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    sort_by: Annotated[str | None, Query(max_length=63)] = None,
    sort_order: Annotated[str, Query(pattern="^(asc|desc)$")] = "asc",
    filters: Annotated[
        str | None, Query(description="JSON list of {column, operator, value}.")
    ] = None,
) -> RowsPage:
    """List rows, and count those that pass the filters."""
    return await (await changers.of(name)).rows(
        schema,
        table,
        parsed_filters(filters),
        limit=limit,
        offset=offset,
        sort_by=sort_by,
        descending=sort_order == "desc",
    )


@router.post("/{name}/tables/{table}/rows", status_code=201, dependencies=[_may("data")])
async def insert_rows(
    name: str, table: str, data: RowsInsert, changers: Changing, schema: SchemaName = "public"
) -> Inserted:
    """Add rows, all or none."""
    return await (await changers.of(name)).insert(schema, table, data.rows)


@router.patch("/{name}/tables/{table}/rows", dependencies=[_may("data")])
async def update_rows(
    name: str, table: str, data: RowsUpdate, changers: Changing, schema: SchemaName = "public"
) -> Affected:
    """Set values in the rows that equal all of `where`."""
    changer = await changers.of(name)
    return Affected(affected_rows=await changer.update(schema, table, data.where, data.set_values))


@router.delete("/{name}/tables/{table}/rows", dependencies=[_may("data")])
async def delete_rows(
    name: str, table: str, data: RowsDelete, changers: Changing, schema: SchemaName = "public"
) -> Affected:
    """Remove the rows that equal all of `where`."""
    changer = await changers.of(name)
    return Affected(affected_rows=await changer.delete(schema, table, data.where))


@router.get("/{name}/annotations")
async def list_annotations(name: str, connections: Schema) -> list[Annotation]:
    """List what is said of tables and columns."""
    return [_annotation(row) for row in await connections.annotations(name)]


@router.put("/{name}/annotations")
async def put_annotations(name: str, data: Annotations, connections: Schema) -> Upserted:
    """Write annotations over those of the same tables and columns; others stay."""
    return Upserted(upserted=await connections.annotate(name, data))


def _annotation(row: DatabaseAnnotation) -> Annotation:
    return Annotation(
        schema_name=row.schema_name,
        table_name=row.table_name,
        column_name=row.column_name,
        display_name=row.display_name,
        description=row.description,
    )
