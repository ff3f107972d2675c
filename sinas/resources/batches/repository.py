"""SQL of batches: whose they are, and the counts of their executions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import TERMINAL_EXECUTION, Batch, Execution, ExecutionStatus

_COUNTS = (
    select(Execution.status, func.count(), func.max(Execution.completed_at))
    .where(Execution.batch_id == bindparam("key"))
    .group_by(Execution.status)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many executions of a batch are in each status, and when the last of them ended."""

    queued: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    last_end: datetime | None = None

    @classmethod
    def of(cls, rows: Mapping[ExecutionStatus, int], last_end: datetime | None) -> "Counts":
        """From the numbers of each status that occurs."""
        return cls(
            queued=rows.get(ExecutionStatus.PENDING, 0),
            running=rows.get(ExecutionStatus.RUNNING, 0)
            + rows.get(ExecutionStatus.AWAITING_INPUT, 0),
            completed=rows.get(ExecutionStatus.COMPLETED, 0),
            failed=rows.get(ExecutionStatus.FAILED, 0),
            cancelled=rows.get(ExecutionStatus.CANCELLED, 0),
            last_end=last_end,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing of the batch is to come any more."""
        return not self.queued and not self.running


class BatchRepository(Repository[Batch]):
    """Batches, as one caller may see them: their own, or all with the grant for executions."""

    model = Batch
    resource = "executions"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        if self.principal.can(f"sinas.executions.{action}:all"):
            return true()
        return Batch.user_id == self.principal.user_id


async def counts_of(session: AsyncSession, batch_id: UUID) -> Counts:
    """The counts of one batch, in one query."""
    rows = (await session.execute(_COUNTS, {"key": batch_id})).all()
    ends = [row[2] for row in rows if row[2] is not None]
    return Counts.of({row[0]: row[1] for row in rows}, max(ends, default=None))


_live = [
    literal(status, Execution.status.type, literal_execute=True)
    for status in ExecutionStatus
    if status not in TERMINAL_EXECUTION
]
# Made once: it is asked every second.
_FINISH: Any = (
    update(Batch)
    .where(
        Batch.finished_at.is_(None),
        ~select(Execution.id)
        .where(Execution.batch_id == Batch.id, Execution.status.in_(_live))
        .exists(),
    )
    .values(
        finished_at=func.coalesce(
            select(func.max(Execution.completed_at))
            .where(Execution.batch_id == Batch.id)
            .scalar_subquery(),
            func.clock_timestamp(),
        )
    )
    .execution_options(synchronize_session=False)
)


async def finish_ended(session: AsyncSession) -> None:
    """Say of every batch whose executions have all ended that it has."""
    await session.execute(_FINISH)
