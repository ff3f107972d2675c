"""Bodies of the schedule operations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Change, Input, Output
from sinas.kit.cron import Cron, time_zone
from sinas.kit.json_types import JsonObject
from sinas.models import TargetType


def _addressable(name: str) -> str:
    # The name is a segment of the schedule's URL.
    if "/" in name or not name.isprintable() or name != name.strip():
        raise ValueError("cannot have a slash, a control character, or a space at an end")
    return name


def _cron(expression: str) -> str:
    Cron(expression)
    return expression


def _zone(name: str) -> str:
    return time_zone(name).key


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_addressable)]
Namespace = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
TargetName = Annotated[str, Field(min_length=1, max_length=255)]
Expression = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="Five fields: minute, hour, day of month, month, day of week (0 to 7 or "
        "names; 0 and 7 are Sunday).",
    ),
    AfterValidator(_cron),
]
Zone = Annotated[
    str,
    Field(max_length=255, description="IANA name of the time zone the expression is read in."),
    AfterValidator(_zone),
]
Message = Annotated[
    str, Field(min_length=1, description="The message an agent gets; needed for agents.")
]
Overlap = Annotated[
    bool,
    Field(description="Start also while the last run has not ended; else that time is left out."),
]


class ScheduleCreate(Input):
    """A new schedule."""

    name: Name
    schedule_type: TargetType = TargetType.FUNCTION
    target_namespace: Namespace = "default"
    target_name: TargetName
    description: str | None = None
    cron_expression: Expression
    timezone: Zone = "UTC"
    input_data: JsonObject = Field(default_factory=dict)
    content: Message | None = None
    allow_overlap: Overlap = False
    is_active: bool = True


class ScheduleUpdate(Change):
    """Changes; what is left out stays."""

    set_by_platform = Change.set_by_platform | {
        "last_chat_id",
        "last_error",
        "last_execution_id",
        "last_run",
        "next_run",
    }

    name: Name | None = None
    schedule_type: TargetType | None = None
    target_namespace: Namespace | None = None
    target_name: TargetName | None = None
    description: str | None = None
    cron_expression: Expression | None = None
    timezone: Zone | None = None
    input_data: JsonObject | None = None
    content: Message | None = None
    is_active: bool | None = None
    allow_overlap: Overlap | None = None


class ScheduleRead(Output):
    """A schedule."""

    id: UUID
    user_id: UUID
    name: str
    schedule_type: TargetType
    target_namespace: str
    target_name: str
    description: str | None
    cron_expression: str
    timezone: str
    input_data: JsonObject
    content: str | None
    is_active: bool
    allow_overlap: bool
    last_run: datetime | None
    next_run: datetime | None = Field(description="Null while the schedule is inactive.")
    last_execution_id: UUID | None = Field(description="Execution of the last run of a function.")
    last_chat_id: UUID | None = Field(description="Chat of the last run of an agent.")
    last_error: str | None = Field(
        description="Why nothing, or nothing that can succeed, was started the last time."
    )
    created_at: datetime
