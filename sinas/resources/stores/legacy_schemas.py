"""Bodies of `/states`, as clients know them that have namespaces and no stores."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from sinas.crud.schema import Input, Stamped
from sinas.kit.json_types import JsonValue
from sinas.resources.stores.schemas import Identifier
from sinas.resources.stores.state_schemas import (
    EncryptedFlag,
    ExpiresAt,
    Key,
    Relevance,
    Tags,
    Value,
)


class LegacyVisibility(StrEnum):
    """Who reads a state besides its owner: nobody, the members of a role, or everybody."""

    PRIVATE = "private"
    GROUP = "group"
    PUBLIC = "public"


Visibility = Annotated[
    LegacyVisibility,
    Field(
        description="`public` is read by everybody who may read the namespace, `group` by those "
        "of them who have the role `group_id`."
    ),
]
GroupId = Annotated[UUID, Field(description="Id of a role of yours, for `visibility: group`.")]


class NamespacedStateCreate(Input):
    """A new state in a namespace."""

    namespace: Identifier
    key: Key
    value: Value
    visibility: Visibility = LegacyVisibility.PRIVATE
    group_id: GroupId | None = None
    assistant_id: str | None = Field(
        None, max_length=255, description="A label to find it by; nothing else looks at it."
    )
    encrypted: EncryptedFlag = False
    description: str | None = None
    tags: Tags = []
    relevance_score: Relevance = 1.0
    expires_at: ExpiresAt | None = None


class NamespacedStateUpdate(Input):
    """Fields to change; null is as if left out, but empties `description` and `expires_at`."""

    value: Value = None
    visibility: Visibility | None = None
    group_id: GroupId | None = None
    encrypted: EncryptedFlag | None = None
    description: str | None = None
    tags: Tags | None = None
    relevance_score: Relevance | None = None
    expires_at: ExpiresAt | None = None


class NamespacedStateRead(Stamped):
    """A state, its value in clear."""

    user_id: UUID
    namespace: str
    key: str
    value: JsonValue
    visibility: LegacyVisibility
    group_id: UUID | None
    assistant_id: str | None
    encrypted: bool
    description: str | None
    tags: list[str]
    relevance_score: float
    expires_at: datetime | None
