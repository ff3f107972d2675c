"""Bodies of the database trigger operations."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Input, Stamped


def _addressable(name: str) -> str:
    # The name is a segment of the trigger's URL.
    if "/" in name or not name.isprintable() or name != name.strip():
        raise ValueError("cannot have a slash, a control character, or a space at an end")
    return name


def _storable(text: str) -> str:
    # Asked of the user's database before ours could refuse it.
    if "\x00" in text:
        raise ValueError("cannot have a NUL character")
    return text


class Operation(StrEnum):
    """What happens to rows."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"


def _once(operations: list[Operation]) -> list[Operation]:
    return [each for each in Operation if each in operations]


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_addressable)]
Given = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Operations = Annotated[
    list[Operation],
    Field(
        min_length=1,
        max_length=10,
        description="Polling sees both alike. `INSERT` alone needs a poll column that updates "
        "leave as it is: an identity column, a sequence, or part of the primary key.",
    ),
    AfterValidator(_once),
]
Column = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="A column whose values grow: rows with larger ones than before are new.",
    ),
    AfterValidator(_storable),
]
Interval = Annotated[int, Field(ge=1, le=3600)]
BatchSize = Annotated[int, Field(ge=1, le=10_000, description="Rows of one execution at most.")]


class DatabaseTriggerCreate(Input):
    """A new trigger."""

    name: Name
    database_connection_id: UUID
    schema_name: Given = "public"
    table_name: Given
    operations: Operations = [Operation.INSERT, Operation.UPDATE]
    function_namespace: Given = "default"
    function_name: Given
    poll_column: Column
    poll_interval_seconds: Interval = 10
    batch_size: BatchSize = 100


class DatabaseTriggerUpdate(Input):
    """Changes; what is left out stays. Another poll column starts from the table as it is."""

    name: Name | None = None
    operations: Operations | None = None
    function_namespace: Given | None = None
    function_name: Given | None = None
    poll_column: Column | None = None
    poll_interval_seconds: Interval | None = None
    batch_size: BatchSize | None = None
    is_active: bool | None = None


class BookmarkReset(Input):
    """Where to begin anew."""

    position: Literal["now", "beginning"] = Field(
        default="now",
        description="`now`: only what comes after; `beginning`: every row of the table again.",
    )


class DatabaseTriggerRead(Stamped):
    """A trigger."""

    user_id: UUID
    name: str
    database_connection_id: UUID
    schema_name: str
    table_name: str
    operations: list[Operation]
    function_namespace: str
    function_name: str
    poll_column: str
    poll_interval_seconds: int
    batch_size: int
    is_active: bool
    last_poll_value: str | None = Field(
        description="Largest value that was reported; null before the first row."
    )
    error_message: str | None = Field(
        description="Why the last look failed or waits; null when all is well."
    )
    last_polled_at: datetime | None
    next_poll_at: datetime
