"""Tables, views and rows of a database: statements made here, never given."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from sinas.databases.base import Database, DatabaseTarget, Limits, Result, Statement, StatementError
from sinas.databases.ddl import (
    checked_default,
    checked_select,
    checked_type,
    qualified,
    quoted,
)
from sinas.databases.json_values import json_rows
from sinas.databases.parameters import parse
from sinas.databases.pools import DatabasePools
from sinas.errors import BadRequestError, FieldError, ForbiddenError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonValue
from sinas.resources.database_connections.table_schemas import (
    Column,
    Filter,
    Inserted,
    RowsPage,
    TableCreate,
    TableUpdate,
    ViewCreate,
)

_LIMITS: Final = Limits(rows=1000, seconds=30)
# Of what is no table, none.
_PRIMARY_KEY: Final = """
SELECT a.attname::text FROM pg_catalog.pg_index i,
  unnest(i.indkey) WITH ORDINALITY u(number, position), pg_catalog.pg_attribute a
WHERE i.indrelid = pg_catalog.to_regclass(:table) AND i.indisprimary
  AND a.attrelid = i.indrelid AND a.attnum = u.number
ORDER BY u.position"""
# What the protocol can count to.
_MAX_PARAMETERS: Final = 32_767
_PARAMETER: Final = re.compile(r"':(p\d+)'")
_FILTERS: Final[TypeAdapter[list[Filter]]] = TypeAdapter(list[Filter])


def parsed_filters(text: str | None) -> list[Filter]:
    """The conditions of a request for rows.

    Raises:
        BadRequestError: No JSON list of them.
    """
    if not text:
        return []
    try:
        return _FILTERS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("filters", *map(str, first["loc"])))
        raise BadRequestError(
            f"{where}: {first['msg']}", [FieldError(where, str(first["msg"]))]
        ) from None


class Changer:
    """Changes one PostgreSQL database. Holds no transaction of Sinas' own.

    Raises:
        BadRequestError: The database is of another type.
    """

    def __init__(self, pools: DatabasePools, target: DatabaseTarget) -> None:
        if target.connection_type != "postgresql":
            raise BadRequestError(
                f"'{target.name}' is a {target.connection_type} database: its tables and rows are "
                "changed by queries whose operation is write."
            )
        self._pools = pools
        self._target = target

    async def create_table(self, data: TableCreate) -> None:
        """Make a table."""
        columns = [_column(column) for column in data.columns]
        keys = [quoted(column.name) for column in data.columns if column.primary_key]
        if keys:
            columns.append(f"PRIMARY KEY ({', '.join(keys)})")
        maybe = "IF NOT EXISTS " if data.if_not_exists else ""
        table = qualified(data.schema_name, data.table_name)
        await self._write(f"CREATE TABLE {maybe}{table} ({', '.join(columns)})")

    async def alter_table(self, table: str, data: TableUpdate) -> None:
        """Drop, rename and add columns, in this order, all or none.

        Raises:
            BadRequestError: Nothing to change.
        """
        name = qualified(data.schema_name, table)
        changes = [
            *(f"DROP COLUMN {quoted(each)}" for each in data.drop_columns or ()),
            *(
                f"RENAME COLUMN {quoted(old)} TO {quoted(new)}"
                for old, new in (data.rename_columns or {}).items()
            ),
            *(
                f"ADD COLUMN {_column(each)}{' PRIMARY KEY' if each.primary_key else ''}"
                for each in data.add_columns or ()
            ),
        ]
        if not changes:
            raise BadRequestError("Give add_columns, drop_columns or rename_columns.")
        await self._write(*(f"ALTER TABLE {name} {change}" for change in changes))

    async def drop_table(self, schema: str, table: str, *, cascade: bool) -> None:
        """Remove a table, with what depends on it if told."""
        await self._write(f"DROP TABLE {qualified(schema, table)}{_cascade(cascade)}")

    async def create_view(self, data: ViewCreate) -> None:
        """Make a view."""
        if "\x00" in data.sql:
            raise BadRequestError("sql holds a NUL character, which no statement can.")
        parsed = parse(data.sql, "postgresql")
        if parsed.names or parsed.is_several:
            raise BadRequestError("A view's sql must be one statement without parameters.")
        select = checked_select(parsed.parts[0], parsed.words[0])
        replace = "OR REPLACE " if data.or_replace else ""
        await self._write(
            f"CREATE {replace}VIEW {qualified(data.schema_name, data.name)} AS {select}"
        )

    async def drop_view(self, schema: str, view: str, *, cascade: bool) -> None:
        """Remove a view, with what depends on it if told."""
        await self._write(f"DROP VIEW {qualified(schema, view)}{_cascade(cascade)}")

    async def rows(
        self,
        schema: str,
        table: str,
        filters: Sequence[Filter],
        *,
        limit: int,
        offset: int,
        sort_by: str | None,
        descending: bool,
    ) -> RowsPage:
        """One page of rows, and how many pass the filters in all."""
        bound = _Bound()
        conditions = [_condition(each, bound) for each in filters]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        source = f"{qualified(schema, table)}{where}"
        counting = Statement(f"SELECT count(*) FROM {source}", dict(bound.values))
        part = f" LIMIT {bound.add(limit)}::bigint OFFSET {bound.add(offset)}::bigint"
        bound.check()
        with bound.naming_columns():
            async with self._pools.database(self._target) as database:
                # Or pages would show rows twice, and others never: without an order there is none.
                keys = [] if sort_by else await _primary_key(database, schema, table)
                order = ", ".join(
                    f"{quoted(name)} {'DESC' if descending else 'ASC'}"
                    for name in [sort_by, *keys]
                    if name
                )
                page = f"SELECT * FROM {source}{f' ORDER BY {order}' if order else ''}{part}"
                found = await database.read(Statement(page, bound.values), _LIMITS)
                total = await database.read(counting, _LIMITS)
        return RowsPage(rows=json_rows(found), total_count=int(total.rows[0][0]))

    async def insert(
        self, schema: str, table: str, rows: Sequence[Mapping[str, JsonValue]]
    ) -> Inserted:
        """Add rows, all or none."""
        bound = _Bound()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        values = ", ".join(
            "("
            + ", ".join(
                bound.add(row[name], name) if name in row else "DEFAULT" for name in columns
            )
            + ")"
            for row in rows
        )
        names = ", ".join(map(quoted, columns))
        bound.check()
        with bound.naming_columns():
            result = await self._run(
                Statement(
                    f"INSERT INTO {qualified(schema, table)} ({names}) VALUES {values} RETURNING *",
                    bound.values,
                )
            )
        return Inserted(inserted=json_rows(result), count=result.affected or 0)

    async def update(
        self,
        schema: str,
        table: str,
        where: Mapping[str, JsonValue],
        values: Mapping[str, JsonValue],
    ) -> int:
        """Set values in the rows that equal `where`; how many there were."""
        bound = _Bound()
        changes = ", ".join(
            f"{quoted(name)} = {bound.add(each, name)}" for name, each in values.items()
        )
        matched = _equals(where, bound)
        bound.check()
        with bound.naming_columns():
            result = await self._run(
                Statement(
                    f"UPDATE {qualified(schema, table)} SET {changes} WHERE {matched}", bound.values
                )
            )
        return result.affected or 0

    async def delete(self, schema: str, table: str, where: Mapping[str, JsonValue]) -> int:
        """Remove the rows that equal `where`; how many there were."""
        bound = _Bound()
        matched = _equals(where, bound)
        bound.check()
        with bound.naming_columns():
            result = await self._run(
                Statement(f"DELETE FROM {qualified(schema, table)} WHERE {matched}", bound.values)
            )
        return result.affected or 0

    async def _write(self, *texts: str) -> None:
        await self._run(*map(Statement, texts))

    async def _run(self, *statements: Statement) -> Result:
        if self._target.read_only:
            raise ForbiddenError(f"The database connection '{self._target.name}' is read-only.")
        async with self._pools.database(self._target) as database:
            return await database.write(statements, _LIMITS)


async def _primary_key(database: Database, schema: str, table: str) -> list[str]:
    found = await database.read(
        Statement(_PRIMARY_KEY, {"table": qualified(schema, table)}), _LIMITS
    )
    return [str(row[0]) for row in found.rows]


class _Bound:
    """Values of a statement under names of our own."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._columns: dict[str, str] = {}

    def add(self, value: Any, column: str = "") -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        self._columns[name] = column
        return f":{name}"

    @contextmanager
    def naming_columns(self) -> Iterator[None]:
        """Have errors about a value name its column: nobody else knows our names."""
        try:
            yield
        except StatementError as error:
            named = _PARAMETER.sub(
                lambda found: f"'{self._columns.get(found.group(1)) or found.group(1)}'",
                error.message,
            )
            raise type(error)(named).coded(error.sqlstate) from error

    def check(self) -> None:
        """Refuse what the protocol cannot carry.

        Raises:
            BadRequestError: Too many values, or one with a character that cannot be stored.
        """
        if len(self.values) > _MAX_PARAMETERS:
            raise BadRequestError(
                f"There are {len(self.values)} values; send {_MAX_PARAMETERS} at a time."
            )
        try:
            encode(list(self.values.values()))
        except NotJsonError as error:
            raise BadRequestError(f"The input {error}") from None


def _column(column: Column) -> str:
    parts = [quoted(column.name), checked_type(column.type)]
    if column.default is not None:
        parts += ["DEFAULT", checked_default(column.default)]
    if not column.nullable:
        parts.append("NOT NULL")
    return " ".join(parts)


def _condition(each: Filter, bound: _Bound) -> str:
    column = quoted(each.column)
    if each.operator in ("IS NULL", "IS NOT NULL"):
        return f"{column} {each.operator}"
    return f"{column} {each.operator} {bound.add(each.value, each.column)}"


def _equals(where: Mapping[str, JsonValue], bound: _Bound) -> str:
    return " AND ".join(
        f"{quoted(name)} IS NULL" if value is None else f"{quoted(name)} = {bound.add(value, name)}"
        for name, value in where.items()
    )


def _cascade(cascade: bool) -> str:
    return " CASCADE" if cascade else ""
