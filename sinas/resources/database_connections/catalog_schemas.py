"""Answers about what is in a database."""

from sinas.crud.schema import Output


class SchemaInfo(Output):
    """A schema that the connection's role may use."""

    schema_name: str


class _Annotated(Output):
    display_name: str | None
    description: str | None


class TableInfo(_Annotated):
    """A table or view. Rows and bytes are the server's estimates, null where it has none."""

    table_name: str
    table_type: str
    estimated_rows: int | None
    size_bytes: int | None


class ColumnInfo(_Annotated):
    """A column. `is_nullable` is YES or NO, as in the SQL standard's information schema."""

    column_name: str
    data_type: str
    udt_name: str
    is_nullable: str
    column_default: str | None
    character_maximum_length: int | None
    numeric_precision: int | None
    numeric_scale: int | None
    ordinal_position: int
    is_primary_key: bool


class ConstraintInfo(Output):
    """A constraint; the last three fields are those of foreign keys."""

    constraint_name: str
    constraint_type: str
    columns: list[str]
    definition: str | None
    ref_schema: str | None
    ref_table: str | None
    ref_columns: list[str] | None


class IndexInfo(Output):
    """An index, or what the server has in its place."""

    index_name: str
    definition: str


class TableDetail(_Annotated):
    """All of a table but its rows."""

    table_name: str
    schema_name: str
    columns: list[ColumnInfo]
    constraints: list[ConstraintInfo]
    indexes: list[IndexInfo]


class ViewInfo(Output):
    """A view; null for a statement that the role may not see."""

    view_name: str
    view_definition: str | None
