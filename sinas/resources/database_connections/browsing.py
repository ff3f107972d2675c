"""What is in a database: schemas, tables, columns, constraints, indexes, views."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sinas.databases.base import Database, DatabaseTarget, Limits, Statement
from sinas.databases.json_values import json_rows
from sinas.databases.pools import DatabasePools
from sinas.errors import NotFoundError
from sinas.kit.json_types import JsonObject
from sinas.models import DatabaseAnnotation

_LIMITS: Final = Limits(rows=10_000, seconds=15)


class Browser:
    """Looks into one database. Holds no transaction of Sinas' own."""

    def __init__(
        self,
        pools: DatabasePools,
        target: DatabaseTarget,
        annotations: Sequence[DatabaseAnnotation],
    ) -> None:
        self._pools = pools
        self._target = target
        self._said = {
            (each.schema_name, each.table_name, each.column_name): each for each in annotations
        }

    async def schemas(self) -> list[JsonObject]:
        """Schemas the role may use; not the server's own."""
        async with self._pools.database(self._target) as database:
            return await _rows(database, database.catalog.schemas)

    async def own_schema(self) -> str:
        """The schema that is meant where none is named."""
        async with self._pools.database(self._target) as database:
            return database.catalog.own_schema

    async def tables(self, schema: str | None) -> list[JsonObject]:
        """Tables and views the role may read, with what is said of them."""
        async with self._pools.database(self._target) as database:
            schema = schema or database.catalog.own_schema
            found = await _rows(database, database.catalog.tables, schema=schema)
        return [row | self._annotation(schema, str(row["table_name"]), None) for row in found]

    async def table(self, schema: str | None, table: str) -> JsonObject:
        """Columns, constraints and indexes.

        Raises:
            NotFoundError: No such table, or none the role may see.
        """
        async with self._pools.database(self._target) as database:
            catalog = database.catalog
            schema = schema or catalog.own_schema
            columns = await _rows(database, catalog.columns, schema=schema, table=table)
            if not columns:
                raise NotFoundError(f"Table '{schema}.{table}' not found")
            constraints: list[Any] = [
                *await _rows(database, catalog.constraints, schema=schema, table=table)
            ]
            indexes: list[Any] = [
                *await _rows(database, catalog.indexes, schema=schema, table=table)
            ]
        named: list[Any] = [
            row | self._annotation(schema, table, str(row["column_name"])) for row in columns
        ]
        return {
            "table_name": table,
            "schema_name": schema,
            **self._annotation(schema, table, None),
            "columns": named,
            "constraints": constraints,
            "indexes": indexes,
        }

    async def views(self, schema: str | None) -> list[JsonObject]:
        """Views the role may read."""
        async with self._pools.database(self._target) as database:
            schema = schema or database.catalog.own_schema
            return await _rows(database, database.catalog.views, schema=schema)

    def _annotation(self, schema: str, table: str, column: str | None) -> JsonObject:
        said = self._said.get((schema, table, column))
        return {
            "display_name": None if said is None else said.display_name,
            "description": None if said is None else said.description,
        }


async def _rows(database: Database, sql: str | None, **parameters: str) -> list[JsonObject]:
    if sql is None:
        return []
    rows = json_rows(await database.read(Statement(sql, parameters), _LIMITS))
    for row in rows:
        for name in database.catalog.json_columns & row.keys():
            row[name] = json.loads(str(row[name]))
    return rows
