"""SQL of schedules: what callers may see, and what is due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, bindparam, exists, false, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.db.direct import any_row
from sinas.models import TERMINAL_EXECUTION, TERMINAL_TURN, Execution, Schedule, Turn


class ScheduleRepository(Repository[Schedule]):
    """Schedules, as one caller may see them: their own, or all with the grant for it."""

    model = Schedule
    resource = "schedules"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        if self.principal.can(f"sinas.schedules.{action}:all"):
            return true()
        if self.principal.can(f"sinas.schedules.{action}:own"):
            return Schedule.user_id == self.principal.user_id
        return false()

    async def listed(self, *, skip: int, limit: int) -> Sequence[Schedule]:
        """Visible schedules by name."""
        statement = self.visible().order_by(Schedule.name, Schedule.created_at, Schedule.id)
        return await self.page(statement, skip=skip, limit=limit)

    async def named(self, name: str, action: str) -> Sequence[Schedule]:
        """The caller's own of that name, or the one of that id; else up to two of others."""
        if (key := _id_in(name)) and (row := await self.by_id(key, action)) is not None:
            return [row]
        statement = self.visible(action).where(Schedule.name == name)
        is_own = Schedule.user_id == self.principal.user_id
        found = (await self.session.scalars(statement.order_by(is_own.desc()).limit(2))).all()
        return found[:1] if found and found[0].user_id == self.principal.user_id else found


def _id_in(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


_is_due = (Schedule.is_active, Schedule.next_run <= func.now())
_is_busy = or_(
    exists().where(
        Execution.id == Schedule.last_execution_id, Execution.status.not_in(TERMINAL_EXECUTION)
    ),
    exists().where(Turn.chat_id == Schedule.last_chat_id, Turn.status.not_in(TERMINAL_TURN)),
)
# Made once: the scheduler asks every second.
_due = select(Schedule.id).where(*_is_due)
IS_DUE = any_row(_due)
_DUE = _due.order_by(Schedule.next_run).limit(bindparam("most"))
_LOCKED = select(Schedule, _is_busy.label("is_busy"), func.now().label("now")).where(
    Schedule.id == bindparam("key")
)
_WAIT = _LOCKED.with_for_update(of=Schedule)
# Another scheduler has it, or had it in this moment: then it is not due any more.
_TAKE = _LOCKED.where(*_is_due).with_for_update(of=Schedule, skip_locked=True)


async def due(session: AsyncSession, limit: int) -> Sequence[UUID]:
    """Schedules whose time has come, longest waiting first."""
    return (await session.scalars(_DUE, {"most": limit})).all()


async def take_due(
    session: AsyncSession, schedule_id: UUID
) -> Row[Schedule, bool, datetime] | None:
    """The schedule, whether its last run goes on, and the time; None if it is not to be fired.

    It is this transaction's until it ends.
    """
    return (await session.execute(_TAKE, {"key": schedule_id})).first()


async def lock(session: AsyncSession, schedule_id: UUID) -> Row[Schedule, bool, datetime] | None:
    """As `take_due`, due or not, after whoever has it; None when it is gone."""
    found = await session.execute(
        _WAIT, {"key": schedule_id}, execution_options={"populate_existing": True}
    )
    return found.first()


async def note(session: AsyncSession, schedule_id: UUID, values: dict[str, Any]) -> None:
    """Write what became of a firing."""
    await session.execute(
        update(Schedule)
        .where(Schedule.id == schedule_id)
        .values(values)
        .execution_options(synchronize_session=False)
    )
