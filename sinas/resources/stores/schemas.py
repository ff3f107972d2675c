"""Bodies of the store operations."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from sinas.crud.schema import Change, Input, Stamped
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.models import StateVisibility


def _usable(schema: JsonObject) -> JsonObject:
    try:
        check_schema(schema)
    except BadSchemaError as error:
        where = "/".join(str(part) for part in error.path)
        raise ValueError(
            f"is no valid JSON Schema{' at ' + where if where else ''}: {error.message}"
        ) from error
    return schema


Identifier = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")
]
KeySchemas = Annotated[
    JsonObject,
    AfterValidator(_usable),
    Field(
        description="JSON Schema (draft 2020-12) whose `properties` are the known keys, each with "
        "the schema of its value. Agents are told the keys.",
    ),
]
Strict = Annotated[
    bool,
    Field(description="Refuse other keys, if there are any known ones, and unfitting values."),
]
DefaultVisibility = Annotated[
    StateVisibility, Field(description="Of states that do not say theirs.")
]
Encrypted = Annotated[
    bool,
    Field(description="Encrypt every value. Switched on later, it encrypts those that are there."),
]


class StoreCreate(Input):
    """A new store."""

    # `schema` is a method of pydantic's models.
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    namespace: Identifier = "default"
    name: Identifier
    description: str | None = None
    schema_: KeySchemas | None = Field(None, alias="schema")
    strict: Strict = False
    default_visibility: DefaultVisibility = StateVisibility.PRIVATE
    encrypted: Encrypted = False


class StoreUpdate(Change):
    """Fields to change; null is as if left out, but empties `description`."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: str | None = None
    schema_: KeySchemas | None = Field(None, alias="schema")
    strict: Strict | None = None
    default_visibility: DefaultVisibility | None = None
    encrypted: Encrypted | None = None


class StoreRead(Stamped):
    """A store. `user_id` is null for one that a write to `/states` made: it is nobody's."""

    user_id: UUID | None
    namespace: str
    name: str
    description: str | None
    schema_: JsonObject = Field(alias="schema")
    strict: bool
    default_visibility: StateVisibility
    encrypted: bool
