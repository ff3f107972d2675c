"""Slots and publications in users' databases: made on record, and dropped once nobody uses them.

What a process that died, a deleted trigger or a deleted connection leaves behind is found by its
row: a slot holds back its server's log until it is dropped.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.databases.base import DatabaseError, DatabaseTarget
from sinas.errors import SinasError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.models import DatabaseConnection, DatabaseTrigger, ReplicationSlot
from sinas.resources.database_connections.service import former_target
from sinas.resources.database_triggers import publications
from sinas.resources.database_triggers.position import LogPosition

log = structlog.get_logger(__name__)

# Making one takes half a minute at most; what has no trigger then never gets one.
_MAKING = timedelta(minutes=5)
# Dropping one takes less; another process tries again then.
_DROPPING = timedelta(minutes=2)
_LONGEST_BACKOFF_SECONDS = 3600
_SWEEP_SECONDS = 5.0
_NO_SUCH_DATABASE = "3D000"
_REACHED_BY = (
    "name",
    "connection_type",
    "host",
    "port",
    "database",
    "username",
    "password_encrypted",
    "ssl_mode",
    "config",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot that was made, and the bookmark with which its trigger begins."""

    id: UUID
    bookmark: JsonObject


def slot_name(slot_id: UUID) -> str:
    """Of the slot and of the publication, in the user's database."""
    return f"sinas_{slot_id.hex}"


async def make(
    context: AppContext,
    target: DatabaseTarget,
    schema: str,
    table: str,
    operations: list[str],
) -> Slot:
    """Make slot and publication for a trigger, whose row must name it within minutes.

    Raises:
        BadRequestError: The server does not let the user; the field is named.
        ConflictError: Somebody writes for too long.
        DatabaseError: The database did not answer.
    """
    slot_id = uuid7()
    async with context.unit() as unit:
        unit.session.add(
            ReplicationSlot(
                id=slot_id,
                database_connection_id=target.connection_id,
                reached_by=select(_reached_by())
                .where(DatabaseConnection.id == target.connection_id)
                .scalar_subquery(),
                due_at=func.now() + _MAKING,
            )
        )
    try:
        async with context.databases.database(target) as database:
            made = await publications.create(
                database, slot_name(slot_id), schema, table, operations
            )
    except Exception:
        await settle(context, slot_id)
        raise
    return Slot(id=slot_id, bookmark=LogPosition(publication=made.publication).dump())


async def settle(context: AppContext, slot_id: UUID) -> None:
    """Say that a trigger names it by now, or never will: from now on it goes once none does."""
    async with context.unit() as unit:
        await unit.session.execute(
            update(ReplicationSlot).where(ReplicationSlot.id == slot_id).values(due_at=func.now())
        )


async def sweep(context: AppContext) -> None:
    """Drop what nobody uses, until cancelled."""
    while True:
        try:
            while await drop_one(context):
                pass
        except Exception:
            # Our own database is away; it is asked again.
            log.warning("database_triggers.sweep_failed", exc_info=True)
        await asyncio.sleep(_SWEEP_SECONDS)


async def drop_one(context: AppContext) -> bool:
    """Drop one that is due, in its database and on record; whether there was one."""
    async with context.unit() as unit:
        await _keep_addresses(unit.session)
        slot = await unit.session.scalar(_due())
        if slot is None:
            return False
        slot.due_at = func.now() + _DROPPING
        slot_id, failures, reached_by = slot.id, slot.failures, slot.reached_by
    try:
        await _drop(context, slot_id, reached_by)
    except SinasError as error:
        await _put_off(context, slot_id, failures + 1, error.message)
        return True
    async with context.unit() as unit:
        await unit.session.delete(await unit.session.get_one(ReplicationSlot, slot_id))
    log.info("database_triggers.slot_dropped", slot=slot_name(slot_id))
    return True


async def _drop(context: AppContext, slot_id: UUID, reached_by: JsonObject) -> None:
    target = former_target(reached_by, context.cipher)
    try:
        async with context.databases.database(target) as database:
            await publications.drop(database, slot_name(slot_id))
    except DatabaseError as error:
        # A database that was dropped took both with it.
        if error.sqlstate != _NO_SUCH_DATABASE:
            raise


async def _put_off(context: AppContext, slot_id: UUID, failures: int, message: str) -> None:
    pause = timedelta(seconds=min(2 ** min(failures, 12), _LONGEST_BACKOFF_SECONDS))
    log.warning(
        "database_triggers.slot_not_dropped",
        slot=slot_name(slot_id),
        failures=failures,
        error=message,
    )
    async with context.unit() as unit:
        await unit.session.execute(
            update(ReplicationSlot)
            .where(ReplicationSlot.id == slot_id)
            .values(failures=failures, error_message=message, due_at=func.now() + pause)
        )


async def _keep_addresses(session: AsyncSession) -> None:
    """Have a connection's changes known here, before it is deleted and forgotten."""
    now = _reached_by()
    await session.execute(
        update(ReplicationSlot)
        .where(
            ReplicationSlot.database_connection_id == DatabaseConnection.id,
            DatabaseConnection.deleted_at.is_(None),
            ReplicationSlot.reached_by != now,
        )
        .values(reached_by=now)
        .execution_options(synchronize_session=False)
    )


def _reached_by() -> ColumnElement[JsonObject]:
    pairs = [part for key in _REACHED_BY for part in (key, getattr(DatabaseConnection, key))]
    return func.jsonb_build_object(*pairs)


def _due() -> Select[ReplicationSlot]:
    is_used = (
        select(DatabaseTrigger.id)
        .where(DatabaseTrigger.replication_slot_id == ReplicationSlot.id)
        .exists()
    )
    is_deleted = (
        select(DatabaseConnection.id)
        .where(
            DatabaseConnection.id == ReplicationSlot.database_connection_id,
            DatabaseConnection.deleted_at.is_not(None),
        )
        .exists()
    )
    return (
        select(ReplicationSlot)
        .where(ReplicationSlot.due_at <= func.now(), or_(~is_used, is_deleted))
        .order_by(ReplicationSlot.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
