"""Bodies of the state operations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Input, Moment, Output, Stamped
from sinas.kit.json_text import encode
from sinas.kit.json_types import JsonValue
from sinas.models import StateVisibility

_MAX_TAGS = 100


def _storable(tags: list[str]) -> list[str]:
    encode(list(tags))
    return tags


Key = Annotated[str, Field(min_length=1, max_length=255)]
Value = Annotated[JsonValue, Field(description="Any JSON.")]
Visibility = Annotated[
    StateVisibility,
    Field(
        description="`shared` is read by everybody who may read states of the store; "
        "left out, the store's `default_visibility` counts."
    ),
]
EncryptedFlag = Annotated[
    bool,
    Field(description="Store the value encrypted. In an encrypted store every value is."),
]
Tag = Annotated[str, Field(min_length=1, max_length=255)]
Tags = Annotated[list[Tag], Field(max_length=_MAX_TAGS), AfterValidator(_storable)]
Relevance = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The most relevant states come first, and agents are shown five of them.",
    ),
]
ExpiresAt = Annotated[
    Moment,
    Field(description="From then on it is gone. Without a time zone it is in UTC."),
]


class StateCreate(Input):
    """A new state."""

    key: Key
    value: Value
    visibility: Visibility | None = None
    encrypted: EncryptedFlag = False
    description: str | None = None
    tags: Tags = []
    relevance_score: Relevance = 1.0
    expires_at: ExpiresAt | None = None


class StateUpdate(Input):
    """Fields to change; null is as if left out, but empties `description` and `expires_at`."""

    value: Value = None
    encrypted: EncryptedFlag | None = None
    description: str | None = None
    tags: Tags | None = None
    relevance_score: Relevance | None = None
    expires_at: ExpiresAt | None = None
    visibility: Visibility | None = None


class StateRead(Stamped):
    """A state, its value in clear."""

    user_id: UUID
    store_id: UUID
    store_namespace: str
    store_name: str
    key: str
    value: JsonValue
    visibility: StateVisibility
    encrypted: bool
    description: str | None
    tags: list[str]
    relevance_score: float
    expires_at: datetime | None


class StateDeleted(Output):
    """What was deleted, in words."""

    message: str
