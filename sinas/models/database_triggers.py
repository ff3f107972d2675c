"""Triggers on tables of databases: what changed there starts a function."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class TriggerMode(StrEnum):
    """How a trigger learns what changed: it asks the table, or reads the server's log."""

    POLL = "poll"
    REPLICATION = "replication"


class ReplicationSlot(IdMixin, Base):
    """A slot and a publication of one name in a user's database.

    The row is there before they are made and until they are dropped, whatever becomes of the
    trigger and of the connection: a slot that is left holds back its server's log.

    Attributes:
        reached_by: Columns of the `DatabaseConnection` as it was last, the password encrypted.
        due_at: From when on they are dropped, unless a trigger names the row.
        failures: How often dropping them has failed.
        error_message: Why it failed last.
    """

    __tablename__ = "replication_slots"
    __table_args__ = (Index("ix_replication_slots_due_at", "due_at"),)

    database_connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("database_connections.id"), index=True
    )
    reached_by: Mapped[JsonObject] = mapped_column(JSONB)
    due_at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatabaseTrigger(IdMixin, TimestampMixin, Base):
    """A table that is looked at again and again, and the function its changes go to.

    Attributes:
        access: The permission limit of whoever last said what it runs, as in `Execution`.
        poll_column: Of no use with `replication`; null where it was never given.
        replication_slot_id: What `replication` reads; null when the connection was deleted.
        bookmark: How far it has come (`position.Bookmark`, or `position.LogPosition`); null
            before the first look.
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
    mode: Mapped[TriggerMode] = mapped_column(
        default=TriggerMode.POLL, server_default=TriggerMode.POLL
    )
    poll_column: Mapped[str | None]
    poll_interval_seconds: Mapped[int]
    batch_size: Mapped[int]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    replication_slot_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("replication_slots.id", ondelete="SET NULL"), index=True
    )
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
        """The largest value of the poll column that was reported, as PostgreSQL writes it.

        With `replication` the place in the log of the last transaction that was.
        """
        value = (self.bookmark or {}).get("value")
        return None if value is None else str(value)
