"""SQL of database triggers: what callers may see, and which process looks when."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, false, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.db.direct import DirectStatements, Statement
from sinas.kit.json_types import JsonObject
from sinas.models import DatabaseTrigger

# A process that died is replaced after so long; a living one renews in time.
LEASE = timedelta(seconds=8)


class DatabaseTriggerRepository(Repository[DatabaseTrigger]):
    """Triggers, as one caller may see them: their own, or all with the grant for it."""

    model = DatabaseTrigger
    resource = "database_triggers"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        if self.principal.can(f"sinas.database_triggers.{action}:all"):
            return true()
        if self.principal.can(f"sinas.database_triggers.{action}:own"):
            return DatabaseTrigger.user_id == self.principal.user_id
        return false()

    async def listed(self, *, skip: int, limit: int) -> Sequence[DatabaseTrigger]:
        """Visible triggers by name."""
        statement = self.visible().order_by(
            DatabaseTrigger.name, DatabaseTrigger.created_at, DatabaseTrigger.id
        )
        return await self.page(statement, skip=skip, limit=limit)

    async def named(
        self, name: str, action: str, *, for_update: bool = False
    ) -> Sequence[DatabaseTrigger]:
        """The caller's own of that name, or the one of that id; else up to two of others."""
        matches: ColumnElement[bool] = DatabaseTrigger.name == name
        if (key := _id_in(name)) is not None:
            matches = or_(matches, DatabaseTrigger.id == key)
        is_own = DatabaseTrigger.user_id == self.principal.user_id
        statement = self.visible(action).where(matches).order_by(is_own.desc()).limit(2)
        if for_update:
            statement = statement.with_for_update()
        found = (await self.session.scalars(statement)).all()
        return found[:1] if found and found[0].user_id == self.principal.user_id else found


def _id_in(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


async def take_due(session: AsyncSession, process: UUID, limit: int) -> Sequence[DatabaseTrigger]:
    """Lease what is due and nobody's, longest waiting first."""
    now = func.clock_timestamp()
    due = (
        select(DatabaseTrigger.id)
        .where(
            DatabaseTrigger.is_active,
            DatabaseTrigger.next_poll_at <= now,
            or_(DatabaseTrigger.lease_until.is_(None), DatabaseTrigger.lease_until <= now),
        )
        .order_by(DatabaseTrigger.next_poll_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = await session.scalars(
        update(DatabaseTrigger)
        .where(DatabaseTrigger.id.in_(due))
        .values(lease_owner=process, lease_until=now + LEASE, updated_at=DatabaseTrigger.updated_at)
        .returning(DatabaseTrigger)
        .execution_options(synchronize_session=False)
    )
    return taken.all()


_at = func.min(func.greatest(DatabaseTrigger.next_poll_at, DatabaseTrigger.lease_until))
# Raw: an idle process asks nothing else, every second.
_NEXT = Statement(
    select(func.extract("epoch", _at - func.clock_timestamp()).label("seconds")).where(
        DatabaseTrigger.is_active
    )
)


async def seconds_to_next(direct: DirectStatements) -> float | None:
    """Until one more is due and nobody's; None where no trigger is active."""
    seconds = (await direct.one(_NEXT, {}))["seconds"]
    return None if seconds is None else float(seconds)


async def renew(session: AsyncSession, process: UUID) -> None:
    """Keep what this process has."""
    await session.execute(
        update(DatabaseTrigger)
        .where(DatabaseTrigger.lease_owner == process)
        .values(lease_until=func.clock_timestamp() + LEASE, updated_at=DatabaseTrigger.updated_at)
        .execution_options(synchronize_session=False)
    )


async def hold(session: AsyncSession, trigger: DatabaseTrigger, process: UUID) -> bool:
    """Lock the trigger, if it still is this process's, as it was, and active."""
    found = await session.scalar(
        select(DatabaseTrigger.id)
        .where(
            DatabaseTrigger.id == trigger.id,
            DatabaseTrigger.lease_owner == process,
            DatabaseTrigger.generation == trigger.generation,
            DatabaseTrigger.is_active,
        )
        .with_for_update()
    )
    return found is not None


async def move(session: AsyncSession, trigger_id: UUID, bookmark: JsonObject, batches: int) -> None:
    """Set how far a trigger that is held has come."""
    await session.execute(
        update(DatabaseTrigger)
        .where(DatabaseTrigger.id == trigger_id)
        .values(bookmark=bookmark, batches=batches, updated_at=DatabaseTrigger.updated_at)
        .execution_options(synchronize_session=False)
    )


async def release(
    session: AsyncSession,
    trigger: DatabaseTrigger,
    process: UUID,
    pause: timedelta,
    **values: Any,
) -> None:
    """Give the lease back; what was changed meanwhile keeps its own time and message."""
    # One moment: the clock's own would be another one each time it is named.
    now = func.statement_timestamp()
    mine = (DatabaseTrigger.id == trigger.id, DatabaseTrigger.lease_owner == process)
    given_back = {
        "lease_owner": None,
        "lease_until": None,
        "last_polled_at": now,
        "updated_at": DatabaseTrigger.updated_at,
    }
    same = DatabaseTrigger.generation == trigger.generation
    for condition, more in (
        (same, {"next_poll_at": now + pause, **values}),
        (~same, {}),
    ):
        await session.execute(
            update(DatabaseTrigger)
            .where(*mine, condition)
            .values({**given_back, **more})
            .execution_options(synchronize_session=False)
        )
