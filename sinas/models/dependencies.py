"""Approved Python packages, and the environments built from them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin


class Dependency(IdMixin, Base):
    """One approved package. `package_name` is normalised as PEP 503 says."""

    __tablename__ = "dependencies"

    package_name: Mapped[str] = mapped_column(unique=True)
    version: Mapped[str | None]
    installed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    installed_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class Environment(Base):
    """What the approved packages resolved to; immutable. At most one is current.

    Attributes:
        id: Hex digest of `python` and `lock`.
        python: The interpreter it was resolved for, such as `cp311-x86_64`.
        requirements: What was approved, as `name` or `name==version`.
        lock: Every package that is installed, pinned and hashed, in pip's requirements format.
    """

    __tablename__ = "environments"
    __table_args__ = (
        Index(
            "uq_environments_current",
            "is_current",
            unique=True,
            postgresql_where=text("is_current"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    python: Mapped[str]
    requirements: Mapped[list[str]] = mapped_column(JSONB)
    lock: Mapped[str]
    is_current: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
