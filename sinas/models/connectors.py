"""Connectors: other services' HTTP operations, and what their users allowed there."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class ConnectorTrust(StrEnum):
    """Whose secrets and tokens may go where a connector's address and `auth` say.

    What whoever set them could decide about with the credential they used: nobody's, their own,
    or everybody's.
    """

    NONE = "none"
    OWN = "own"
    ALL = "all"


class Connector(IdMixin, TimestampMixin, Base):
    """One service: where it is, how to sign in there, what can be asked of it.

    Attributes:
        auth: As `ConnectorAuth`; it names secrets and holds none.
        timeout_seconds: For one attempt.
        addressed_by: Who set `base_url` or `auth` last; `trust` is theirs.
    """

    __tablename__ = "connectors"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    base_url: Mapped[str]
    auth: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    headers: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    retry: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    timeout_seconds: Mapped[int] = mapped_column(default=30, server_default="30")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    addressed_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    trust: Mapped[ConnectorTrust] = mapped_column(
        default=ConnectorTrust.NONE, server_default="none"
    )

    operation_rows: Mapped[list["ConnectorOperation"]] = relationship(
        lazy="raise",
        order_by="ConnectorOperation.position",
        cascade="all, delete-orphan",
        passive_deletes=True,
    )

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The operations in their order; they must have been loaded."""
        return [row.config for row in self.operation_rows]


class ConnectorOperation(IdMixin, Base):
    """One operation. Rows of their own: a large service has a thousand, a call needs one."""

    __tablename__ = "connector_operations"
    __table_args__ = (UniqueConstraint("connector_id", "name"),)

    connector_id: Mapped[UUID] = mapped_column(ForeignKey("connectors.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str]
    config: Mapped[JsonObject] = mapped_column(JSONB)


class ConnectorToken(IdMixin, TimestampMixin, Base):
    """What one user allowed at one service (OAuth 2.0). Tokens are Fernet text.

    Attributes:
        audience: Digest of where the tokens may be sent; they are of no use once the
            connector's addresses are others.
    """

    __tablename__ = "connector_tokens"
    __table_args__ = (UniqueConstraint("connector_id", "user_id"),)

    connector_id: Mapped[UUID] = mapped_column(ForeignKey("connectors.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    access_token_encrypted: Mapped[str]
    refresh_token_encrypted: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    scope: Mapped[str | None]
    audience: Mapped[str]
