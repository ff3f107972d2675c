"""Bodies of the operations on tables, views and rows."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from sinas.crud.schema import Input, Output
from sinas.kit.json_types import JsonObject, JsonValue

Name = Annotated[str, Field(min_length=1, max_length=63)]
Operator = Literal["=", "!=", ">", "<", ">=", "<=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL"]
Values = Annotated[dict[Name, JsonValue], Field(min_length=1, max_length=1000)]


class Column(Input):
    """A new column.

    `type` is one of PostgreSQL's own types; `default` a constant, or a function such as `now()`.
    """

    name: Name
    type: str = Field(max_length=100)
    nullable: bool = True
    default: StrictBool | StrictInt | StrictFloat | StrictStr | None = None
    primary_key: bool = False


class TableCreate(Input):
    """A new table."""

    table_name: Name
    schema_name: Name = "public"
    columns: list[Column] = Field(min_length=1, max_length=500)
    if_not_exists: bool = False


class TableUpdate(Input):
    """Changes of a table's columns, all of them or none."""

    schema_name: Name = "public"
    add_columns: list[Column] | None = Field(None, max_length=500)
    drop_columns: list[Name] | None = Field(None, max_length=500)
    rename_columns: dict[Name, Name] | None = Field(None, max_length=500)


class ViewCreate(Input):
    """A new view."""

    name: Name
    schema_name: Name = "public"
    sql: str = Field(min_length=1, max_length=262_144)
    or_replace: bool = False


class Filter(Input):
    """One condition on rows; several hold together."""

    column: Name
    operator: Operator = "="
    value: JsonValue = None


class RowsInsert(Input):
    """New rows; a column left out gets its default."""

    rows: list[Values] = Field(min_length=1, max_length=1000)


class RowsUpdate(Input):
    """Values to set in the rows that equal all of `where`; null there means IS NULL."""

    where: Values
    set_values: Values


class RowsDelete(Input):
    """The rows that equal all of `where`; null there means IS NULL."""

    where: Values


class RowsPage(Output):
    """Rows, and how many there are in all."""

    rows: list[JsonObject]
    total_count: int


class Inserted(Output):
    """The rows as they are now."""

    inserted: list[JsonObject]
    count: int


class Affected(Output):
    """How many rows were changed."""

    affected_rows: int
