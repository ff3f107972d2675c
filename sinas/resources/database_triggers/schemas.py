"""Bodies of the database trigger operations."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sinas.crud.schema import Change, Input, Stamped
from sinas.models import TriggerMode

NEEDS_COLUMN = "is needed by the mode 'poll': a column whose values grow"
SEES_NO_DELETES = "DELETE is not seen by the mode 'poll'; 'replication' sees it, or leave it out"


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
    DELETE = "DELETE"


def _once(operations: list[Operation]) -> list[Operation]:
    return [each for each in Operation if each in operations]


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_addressable)]
Given = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Operations = Annotated[
    list[Operation],
    Field(
        min_length=1,
        max_length=10,
        description="Polling sees inserts and updates alike, and no deletes; `INSERT` alone needs "
        "a poll column that updates leave as it is: an identity column, a sequence, or part of "
        "the primary key. Replication reports just what is named.",
    ),
    AfterValidator(_once),
]
Column = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="A column whose values grow: rows with larger ones than before are new. "
        "Needed by the mode `poll`.",
    ),
    AfterValidator(_storable),
]
Mode = Annotated[
    TriggerMode,
    Field(
        description="`poll` asks the table; `replication` reads the log of the server, which must "
        "have wal_level = logical, through a slot and a publication that are made in the database.",
    ),
]
Interval = Annotated[int, Field(ge=1, le=3600)]
BatchSize = Annotated[int, Field(ge=1, le=10_000, description="Rows of one execution at most.")]


class DatabaseTriggerCreate(Input):
    """A new trigger."""

    name: Name
    database_connection_id: UUID
    schema_name: Given = "public"
    table_name: Given
    mode: Mode = TriggerMode.POLL
    operations: Operations = [Operation.INSERT, Operation.UPDATE]
    function_namespace: Given = "default"
    function_name: Given
    poll_column: Annotated[Column | None, Field(validate_default=True)] = None
    poll_interval_seconds: Interval = 10
    batch_size: BatchSize = 100
    is_active: bool = True

    @field_validator("operations")
    @classmethod
    def _seen(cls, value: list[Operation], info: ValidationInfo) -> list[Operation]:
        if info.data.get("mode") == TriggerMode.POLL and Operation.DELETE in value:
            raise ValueError(SEES_NO_DELETES)
        return value

    @field_validator("poll_column")
    @classmethod
    def _needed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("mode") == TriggerMode.POLL and value is None:
            raise ValueError(NEEDS_COLUMN)
        return value


class DatabaseTriggerUpdate(Change):
    """Changes; what is left out stays. Another poll column or mode starts from the table as it is."""

    set_by_platform = Change.set_by_platform | {
        "error_message",
        "last_poll_value",
        "last_polled_at",
        "next_poll_at",
    }

    name: Name | None = None
    mode: Mode | None = None
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
        description="`now`: only what comes after; `beginning`: every row of the table again, "
        "which only polling can tell.",
    )


class DatabaseTriggerRead(Stamped):
    """A trigger."""

    user_id: UUID
    name: str
    database_connection_id: UUID
    schema_name: str
    table_name: str
    mode: TriggerMode
    operations: list[Operation]
    function_namespace: str
    function_name: str
    poll_column: str | None
    poll_interval_seconds: int
    batch_size: int
    is_active: bool
    last_poll_value: str | None = Field(
        description="Largest value that was reported, or with `replication` the place in the log "
        "of the last transaction that was; null before the first row."
    )
    error_message: str | None = Field(
        description="Why the last look failed or waits; null when all is well."
    )
    last_polled_at: datetime | None
    next_poll_at: datetime
