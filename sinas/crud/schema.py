"""Base models of every request and answer."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

SkipQuery = Annotated[int, Field(ge=0, le=2**31 - 1, description="Rows to leave out.")]
LimitQuery = Annotated[int, Field(ge=1, le=1000, description="Rows at most.")]


class Input(BaseModel):
    """A request body: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """An answer, read from rows or dictionaries."""

    model_config = ConfigDict(from_attributes=True)


class Stamped(Output):
    """The fields most answers start and end with."""

    id: UUID
    created_at: datetime
    updated_at: datetime
