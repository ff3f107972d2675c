"""Bodies of the query operations."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.models import QueryOperation

_MAX_SCHEMA_BYTES = 262_144


def _storable(value: str) -> str:
    encode(value)
    return value


def _usable(value: JsonObject) -> JsonObject:
    try:
        if len(encode(value)) > _MAX_SCHEMA_BYTES:
            raise ValueError(f"must have {_MAX_SCHEMA_BYTES} bytes at most")
        check_schema(value)
    except NotJsonError as error:
        raise ValueError(str(error)) from None
    except BadSchemaError as error:
        raise ValueError(f"is no valid JSON Schema: {error.message}") from None
    return value


Identifier = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")
]
Description = Annotated[str, AfterValidator(_storable), Field(max_length=4096)]
Sql = Annotated[
    str,
    AfterValidator(_storable),
    Field(
        min_length=1,
        max_length=262_144,
        description="One statement with `:name` parameters. `:user_id` and `:user_email` are "
        "always the caller's.",
    ),
]
Schema = Annotated[JsonObject, AfterValidator(_usable)]
InputSchema = Annotated[Schema, Field(description="JSON Schema of the input.")]
OutputSchema = Annotated[
    Schema,
    Field(
        description="JSON Schema of what a read gives: of all rows where its type is `array`, "
        "else of each row."
    ),
]
Timeout = Annotated[int, Field(ge=1, le=600_000)]
MaxRows = Annotated[int, Field(ge=1, le=100_000)]


class QueryCreate(Input):
    """A new query."""

    namespace: Identifier = "default"
    name: Identifier
    description: Description | None = None
    database_connection_id: UUID
    operation: QueryOperation
    sql: Sql
    input_schema: InputSchema | None = None
    output_schema: OutputSchema | None = None
    timeout_ms: Timeout = 5000
    max_rows: MaxRows = 1000
    is_active: bool = True


class QueryUpdate(Change):
    """Fields to change; null is as if left out."""

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: Description | None = None
    database_connection_id: UUID | None = None
    operation: QueryOperation | None = None
    sql: Sql | None = None
    input_schema: InputSchema | None = None
    output_schema: OutputSchema | None = None
    timeout_ms: Timeout | None = None
    max_rows: MaxRows | None = None
    is_active: bool | None = None


class QueryRead(Stamped):
    """A query."""

    user_id: UUID
    namespace: str
    name: str
    description: str | None
    database_connection_id: UUID
    operation: QueryOperation
    sql: str
    input_schema: JsonObject
    output_schema: JsonObject
    timeout_ms: int
    max_rows: int
    is_active: bool


class QueryExecute(Input):
    """The values of a query's parameters; one left out is NULL."""

    input: JsonObject = Field(default_factory=dict)


class QueryOutcome(Output):
    """What a query gave.

    `truncated` says that there were more rows than `max_rows`.
    """

    success: bool
    operation: QueryOperation
    data: list[JsonObject] | None
    row_count: int | None
    affected_rows: int | None
    duration_ms: int
    truncated: bool
