"""Users, roles, and everything a caller can present to prove who they are."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin


class User(IdMixin, TimestampMixin, Base):
    """A person or service account. `email` is stored lower-cased and trimmed.

    A deactivated user keeps the row (others' records point at it) but no credential of theirs
    works any more.
    """

    __tablename__ = "users"

    email: Mapped[str] = mapped_column(unique=True)
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    last_login_at: Mapped[datetime | None]


class Role(IdMixin, TimestampMixin, Base):
    """A named set of permissions."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str | None]
    email_domain: Mapped[str | None]
    is_builtin: Mapped[bool] = mapped_column(default=False, server_default="false")


class UserRole(IdMixin, Base):
    """Membership of a user in a role."""

    __tablename__ = "user_roles"
    __table_args__ = (UniqueConstraint("user_id", "role_id"),)

    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    active: Mapped[bool] = mapped_column(default=True, server_default="true")
    added_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RolePermission(IdMixin, TimestampMixin, Base):
    """One permission key of a role; `permission_value` false grants nothing and denies nothing."""

    __tablename__ = "role_permissions"
    __table_args__ = (UniqueConstraint("role_id", "permission_key"),)

    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    permission_key: Mapped[str]
    permission_value: Mapped[bool]


class OtpSession(IdMixin, Base):
    """One login by one-time code.

    `user_id` is null when the address is unknown: such a login looks the same to its caller
    but can never succeed.
    """

    __tablename__ = "otp_sessions"

    email: Mapped[str] = mapped_column(index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_hash: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RefreshToken(IdMixin, Base):
    """A refresh token; only its SHA-256 is stored.

    Tokens descended from one login share `family_id`, so that the reuse of a rotated one ends
    all of them.
    """

    __tablename__ = "refresh_tokens"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    family_id: Mapped[UUID] = mapped_column(index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(IdMixin, Base):
    """An API key; only its SHA-256 is stored.

    `permissions` limits what the key may do of what its owner may do at that moment; null
    means no limit beyond the owner's own.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "user_id", "created_at"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    key_prefix: Mapped[str]
    permissions: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
