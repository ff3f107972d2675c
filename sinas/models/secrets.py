"""Secrets: what connectors and shared-pool functions use and nobody reads back."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin


class SecretVisibility(StrEnum):
    """Who a secret is for. A private one overrides the shared one of its name for its user."""

    SHARED = "shared"
    PRIVATE = "private"


class Secret(IdMixin, TimestampMixin, Base):
    """One secret. `value_encrypted` is Fernet text and never leaves the server.

    Attributes:
        allowed_hosts: Hosts (and `.suffixes`) that any connector may send it to, and the only
            ones; None where the connector's owner decides.
    """

    __tablename__ = "secrets"
    __table_args__ = (
        Index(
            "uq_secrets_shared",
            "name",
            unique=True,
            postgresql_where=text("visibility = 'shared'"),
        ),
        Index(
            "uq_secrets_private",
            "user_id",
            "name",
            unique=True,
            postgresql_where=text("visibility = 'private'"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    visibility: Mapped[SecretVisibility]
    value_encrypted: Mapped[str]
    allowed_hosts: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
