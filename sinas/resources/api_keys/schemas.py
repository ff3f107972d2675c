"""Requests and answers of API keys."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from sinas.auth.permissions import grammar_error
from sinas.crud.schema import Input, Moment, Output


def _keys_are_sound(permissions: dict[str, bool]) -> dict[str, bool]:
    for key in permissions:
        if problem := grammar_error(key):
            raise PydanticCustomError("permission_key", "{problem}", {"problem": problem})
    return permissions


Permissions = Annotated[dict[str, bool], Field(max_length=1000), AfterValidator(_keys_are_sound)]


class ApiKeyCreate(Input):
    """A new API key."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
    permissions: Permissions | None = Field(
        default=None,
        description="What the key may do of what its owner may do. Left out or null: all of it; "
        "an empty map: nothing.",
    )
    expires_at: Moment | None = Field(default=None, description="Without a time zone it is in UTC.")


class _Key(Output):
    id: UUID
    name: str
    key_prefix: str
    permissions: dict[str, bool]
    inherits: bool = Field(description="No limit of its own: the key may do what its owner may.")
    expires_at: datetime | None
    created_at: datetime


class ApiKeyCreated(_Key):
    """A new API key with the key itself, which is not shown again."""

    key: str


class ApiKeyRead(_Key):
    """An API key."""

    user_id: UUID
    user_email: str
    is_active: bool
    last_used_at: datetime | None
    revoked_at: datetime | None
