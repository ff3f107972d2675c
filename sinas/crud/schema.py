"""Base models of every request and answer."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SkipQuery = Annotated[int, Field(ge=0, le=2**31 - 1, description="Rows to leave out.")]
LimitQuery = Annotated[int, Field(ge=1, le=1000, description="Rows at most.")]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# A time without a zone is one in UTC: that is how older clients write them.
Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Input(BaseModel):
    """A request body: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class Change(Input):
    """The body of a change: only the fields that are given are changed.

    An object may be sent back as it was read: what the platform sets of it, named in
    `set_by_platform`, is left out.
    """

    set_by_platform: ClassVar[frozenset[str]] = frozenset(
        {"id", "user_id", "created_at", "updated_at"}
    )

    @model_validator(mode="before")
    @classmethod
    def _without_what_the_platform_sets(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if name not in cls.set_by_platform}


class Output(BaseModel):
    """An answer, read from rows or dictionaries."""

    model_config = ConfigDict(from_attributes=True)


class Stamped(Output):
    """The fields most answers start and end with."""

    id: UUID
    created_at: datetime
    updated_at: datetime
