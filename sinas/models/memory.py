"""What agents and applications remember: skills, stores, and the states in them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject, JsonValue


class StateVisibility(StrEnum):
    """Who reads a state besides its owner: nobody, or whoever may read states of its store."""

    PRIVATE = "private"
    SHARED = "shared"


class Skill(IdMixin, TimestampMixin, Base):
    """Instructions in Markdown that agents load when they need them, or always have.

    Deleting is soft: the name is free again. An inactive one is kept, and offered to no agent.
    """

    __tablename__ = "skills"
    __table_args__ = (
        Index(
            "uq_skills_namespace_name",
            "namespace",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    content: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    deleted_at: Mapped[datetime | None]


class Store(IdMixin, TimestampMixin, Base):
    """A set of states and the rules they keep.

    Attributes:
        user_id: None for a store that came into being by a write to a namespace: its first
            writer must not own, and be able to delete, what others keep in it.
        schema: JSON Schema whose `properties` are the known keys, each with its value's schema.
        strict: Whether other keys, and values that break their schema, are refused.
        encrypted: Whether every state in it is encrypted.
    """

    __tablename__ = "stores"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    schema: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    strict: Mapped[bool] = mapped_column(default=False, server_default="false")
    default_visibility: Mapped[StateVisibility] = mapped_column(
        default=StateVisibility.PRIVATE, server_default="private"
    )
    encrypted: Mapped[bool] = mapped_column(default=False, server_default="false")


class State(IdMixin, TimestampMixin, Base):
    """One user's value under one key of a store. After `expires_at` it is as if it were gone.

    Attributes:
        value: The value, SQL NULL for JSON's null; `{}` where it is encrypted.
        encrypted_value: Fernet text of the value's JSON; None where it is not encrypted.
        group_id: A role whose members read it too, through `/states`.
        assistant_id: A label of clients of `/states`.
    """

    __tablename__ = "states"
    __table_args__ = (
        UniqueConstraint("user_id", "store_id", "key"),
        Index(
            "ix_states_shared",
            "store_id",
            "key",
            postgresql_where=text("visibility = 'shared'"),
        ),
        Index("ix_states_expires", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
        Index("ix_states_group", "group_id", postgresql_where=text("group_id IS NOT NULL")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    store_id: Mapped[UUID] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), index=True)
    key: Mapped[str]
    value: Mapped[JsonValue] = mapped_column(JSONB(none_as_null=True), nullable=True)
    encrypted_value: Mapped[str | None]
    encrypted: Mapped[bool] = mapped_column(default=False, server_default="false")
    visibility: Mapped[StateVisibility] = mapped_column(
        default=StateVisibility.PRIVATE, server_default="private"
    )
    description: Mapped[str | None]
    tags: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    relevance_score: Mapped[float] = mapped_column(default=1.0, server_default="1.0")
    expires_at: Mapped[datetime | None]
    group_id: Mapped[UUID | None] = mapped_column(ForeignKey("roles.id", ondelete="SET NULL"))
    assistant_id: Mapped[str | None]
