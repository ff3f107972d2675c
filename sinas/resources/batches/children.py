"""What batches consist of, in one shape: executions of a function, or turns of an agent."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import Chat, Execution, ExecutionStatus, Turn, TurnStatus
from sinas.resources.batches.schemas import BatchExecution

OF_TURN: dict[TurnStatus, ExecutionStatus] = {
    TurnStatus.QUEUED: ExecutionStatus.PENDING,
    TurnStatus.RUNNING: ExecutionStatus.RUNNING,
    TurnStatus.WAITING: ExecutionStatus.AWAITING_INPUT,
    TurnStatus.DELEGATED: ExecutionStatus.RUNNING,
    TurnStatus.COMPLETED: ExecutionStatus.COMPLETED,
    TurnStatus.FAILED: ExecutionStatus.FAILED,
    TurnStatus.CANCELLED: ExecutionStatus.CANCELLED,
}
_MILLISECONDS = 1000


def of_execution(row: Execution) -> BatchExecution:
    """One call of a function."""
    return BatchExecution(
        execution_id=row.id,
        status=row.status,
        function_name=row.function_name,
        chat_id=row.chat_id,
        trigger_id=row.trigger_id,
        started_at=row.started_at,
        completed_at=row.completed_at,
        duration_ms=row.duration_ms,
        error=row.error,
    )


def of_turn(turn: Turn, agent_name: str | None) -> BatchExecution:
    """One turn; until it begins, it started when it was accepted, as calls do."""
    return BatchExecution(
        execution_id=turn.id,
        status=OF_TURN[turn.status],
        function_name=agent_name or "",
        chat_id=turn.chat_id,
        trigger_id=turn.trigger_id or "",
        started_at=turn.started_at or turn.created_at,
        completed_at=turn.finished_at,
        duration_ms=duration_ms(turn),
        error=turn.error,
    )


def duration_ms(turn: Turn) -> int | None:
    """How long an ended turn took from its first run on; 0 if it never ran."""
    if turn.finished_at is None:
        return None
    begun = turn.started_at or turn.finished_at
    return int((turn.finished_at - begun).total_seconds() * _MILLISECONDS)


async def turns_of(
    session: AsyncSession,
    batch_id: UUID,
    *,
    status: ExecutionStatus | None,
    offset: int,
    limit: int,
) -> Sequence[BatchExecution]:
    """A batch's turns, in the order of its inputs."""
    statement = (
        select(Turn, Chat.agent_name)
        .join(Chat, Chat.id == Turn.chat_id)
        .where(Turn.batch_id == batch_id)
        .order_by(Turn.id)
        .offset(offset)
        .limit(limit)
    )
    if status is not None:
        wanted = [turn for turn, shown in OF_TURN.items() if shown is status]
        statement = statement.where(Turn.status.in_(wanted))
    return [of_turn(row[0], row[1]) for row in (await session.execute(statement)).all()]
