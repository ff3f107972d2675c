"""Triggers on tables of databases: what changed there starts a function."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class DatabaseTrigger(IdMixin, TimestampMixin, Base):
    """A table that is looked at again and again, and the function its changes go to.

    Attributes:
        access: The permission limit of whoever last said what it runs, as in `Execution`.
        bookmark: How far it has come (`position.Bookmark`); null before the first look.
        generation: Counts what made the bookmark start anew; a look that began before is void.
        batches: Batches started since then; with `generation` it names each one for ever.
        failures: Looks that failed since the last one that did not.
        lease_owner: The process that looks now, until `lease_until` unless it renews that.
    """

    __tablename__ = "database_triggers"
    __table_args__ = (
        UniqueConstraint("user_id", "name"),
        Index("ix_database_triggers_due", "next_poll_at", postgresql_where=text("is_active")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    database_connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("database_connections.id"), index=True
    )
    schema_name: Mapped[str]
    table_name: Mapped[str]
    operations: Mapped[list[str]] = mapped_column(JSONB)
    function_namespace: Mapped[str]
    function_name: Mapped[str]
    poll_column: Mapped[str]
    poll_interval_seconds: Mapped[int]
    batch_size: Mapped[int]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    bookmark: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    batches: Mapped[int] = mapped_column(default=0, server_default="0")
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    error_message: Mapped[str | None]
    last_polled_at: Mapped[datetime | None]
    next_poll_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_owner: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]

    @property
    def last_poll_value(self) -> str | None:
        """The largest value of the poll column that was reported, as PostgreSQL writes it."""
        value = (self.bookmark or {}).get("value")
        return None if value is None else str(value)
