"""SQL of batches: whose they are, and the counts of their executions or turns."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import (
    TERMINAL_EXECUTION,
    TERMINAL_TURN,
    Batch,
    BatchKind,
    Execution,
    ExecutionStatus,
    Turn,
    TurnStatus,
)
from sinas.resources.batches.children import OF_TURN

_COUNTS: dict[BatchKind, Any] = {
    BatchKind.FUNCTION: select(Execution.status, func.count(), func.max(Execution.completed_at))
    .where(Execution.batch_id == bindparam("key"))
    .group_by(Execution.status),
    BatchKind.AGENT: select(Turn.status, func.count(), func.max(Turn.finished_at))
    .where(Turn.batch_id == bindparam("key"))
    .group_by(Turn.status),
}


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


async def counts_of(session: AsyncSession, batch: Batch) -> Counts:
    """The counts of one batch, in one query."""
    rows = (await session.execute(_COUNTS[batch.kind], {"key": batch.id})).all()
    numbers: Counter[ExecutionStatus] = Counter()
    for status, number, _ in rows:
        numbers[OF_TURN[status] if isinstance(status, TurnStatus) else status] += number
    return Counts.of(numbers, max((row[2] for row in rows if row[2] is not None), default=None))


def _has_live(model: type[Execution] | type[Turn], live: list[Any]) -> ColumnElement[bool]:
    own = select(model.id).where(model.batch_id == Batch.id, model.status.in_(live))
    return own.exists()


def _last_end(model: type[Execution] | type[Turn]) -> Any:
    ended = Turn.finished_at if model is Turn else Execution.completed_at
    return select(func.max(ended)).where(model.batch_id == Batch.id).scalar_subquery()


# Literal: with parameters, PostgreSQL could not use the indexes of what is live.
_live_executions = [
    literal(status, Execution.status.type, literal_execute=True)
    for status in ExecutionStatus
    if status not in TERMINAL_EXECUTION
]
_live_turns = [
    literal(status, Turn.status.type, literal_execute=True)
    for status in TurnStatus
    if status not in TERMINAL_TURN
]
# Made once: it is asked every second.
_has_ended = and_(
    Batch.finished_at.is_(None),
    ~_has_live(Execution, _live_executions),
    ~_has_live(Turn, _live_turns),
)
ENDED = select(Batch.id).where(_has_ended)
_FINISH: Any = (
    update(Batch)
    .where(_has_ended)
    .values(
        finished_at=func.coalesce(_last_end(Execution), _last_end(Turn), func.clock_timestamp())
    )
    .execution_options(synchronize_session=False)
)


async def finish_ended(session: AsyncSession) -> None:
    """Say of every batch whose executions or turns have all ended that it has."""
    await session.execute(_FINISH)
