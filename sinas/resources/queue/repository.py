"""SQL of the queue: both kinds of jobs, without the data they carry, whoever's they are.

What is queued or runs has an index of its own; what ended is looked for among the ids of the
last day, which begin with their time. So no question takes longer because the past grows.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Result, Row, func, literal, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.kit.ids import uuid7_floor
from sinas.models import (
    TERMINAL_EXECUTION,
    TERMINAL_TURN,
    Chat,
    Execution,
    ExecutionStatus,
    Turn,
    TurnStatus,
    User,
    Worker,
)
from sinas.queue.lease import living_workers

_EXECUTION: Any = select(
    Execution.id,
    Execution.status,
    Execution.function_namespace,
    Execution.function_name,
    Execution.trigger_type,
    Execution.chat_id,
    Execution.error,
    Execution.created_at,
    Execution.user_id,
    User.email,
).join(User, User.id == Execution.user_id)
_TURN: Any = (
    select(
        Turn.id,
        Turn.status,
        Turn.chat_id,
        Turn.channel_id,
        (func.jsonb_array_length(Turn.past_channels) > 0).label("is_resumed"),
        Turn.error,
        Turn.created_at,
        Turn.user_id,
        User.email,
        Chat.agent_namespace,
        Chat.agent_name,
    )
    .join(User, User.id == Turn.user_id)
    .join(Chat, Chat.id == Turn.chat_id)
)


class QueueRepository:
    """Jobs and workers of everybody; whoever asks was checked.

    `since` bounds what has ended: only what was made after it is counted or listed.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def execution_counts(self, since: datetime) -> dict[ExecutionStatus, int]:
        """Executions by status."""
        return await self._counts(Execution, ExecutionStatus, TERMINAL_EXECUTION, since)

    async def turn_counts(self, since: datetime) -> dict[TurnStatus, int]:
        """Turns by status."""
        return await self._counts(Turn, TurnStatus, TERMINAL_TURN, since)

    async def waiting(self, *, also_delayed: bool) -> tuple[int, int]:
        """How many executions and how many turns wait for a worker.

        Asked of the database: Redis also has what was cancelled until a worker comes by.
        """
        counts = [
            select(func.count()).where(
                _is_one_of(model.status, [status]),
                or_(literal(also_delayed), model.queued_at <= func.now()),
            )
            for model, status in (
                (Execution, ExecutionStatus.PENDING),
                (Turn, TurnStatus.QUEUED),
            )
        ]
        found = select(*(each.scalar_subquery() for each in counts))
        executions, turns = (await self._session.execute(found)).one()
        return executions, turns

    async def executions(
        self, wanted: Collection[ExecutionStatus], since: datetime, limit: int
    ) -> Sequence[Row[Any]]:
        """The newest executions in one of these states."""
        return await self._newest(_EXECUTION, Execution, wanted, TERMINAL_EXECUTION, since, limit)

    async def turns(
        self, wanted: Collection[TurnStatus], since: datetime, limit: int
    ) -> Sequence[Row[Any]]:
        """The newest turns in one of these states."""
        return await self._newest(_TURN, Turn, wanted, TERMINAL_TURN, since, limit)

    async def workers(self) -> Sequence[Worker]:
        """The living workers of both queues."""
        return (await self._session.scalars(living_workers())).all()

    async def _counts(
        self, model: Any, statuses: Any, terminal: Collection[Any], since: datetime
    ) -> dict[Any, int]:
        counted = union_all(
            *(
                select(model.status, func.count()).where(branch).group_by(model.status)
                for branch in _branches(model, statuses, terminal, since)
            )
        )
        rows: Any = (await self._session.execute(counted)).all()
        return dict(rows)

    async def _newest(
        self,
        statement: Any,
        model: Any,
        wanted: Collection[Any],
        terminal: Collection[Any],
        since: datetime,
        limit: int,
    ) -> Sequence[Row[Any]]:
        newest = [
            select(model.id).where(branch).order_by(model.id.desc()).limit(limit).subquery()
            for branch in _branches(model, wanted, terminal, since)
        ]
        ids = union_all(*(select(each.c.id) for each in newest))
        found: Result[Any] = await self._session.execute(
            statement.where(model.id.in_(ids)).order_by(model.id.desc()).limit(limit)
        )
        return found.all()


def _branches(
    model: Any, wanted: Collection[Any], terminal: Collection[Any], since: datetime
) -> list[ColumnElement[bool]]:
    """The wanted rows as conditions that an index answers each."""
    live = [status for status in wanted if status not in terminal]
    ended = [status for status in wanted if status in terminal]
    branches = []
    if live:
        branches.append(_is_one_of(model.status, live))
    if ended:
        branches.append(_is_one_of(model.status, ended) & (model.id >= uuid7_floor(since)))
    return branches


def _is_one_of(column: Any, statuses: Collection[Any]) -> ColumnElement[bool]:
    # Literal: with parameters, PostgreSQL could not use the index of what is queued or runs.
    values = [literal(status, column.type, literal_execute=True) for status in statuses]
    condition: ColumnElement[bool] = column.in_(values)
    return condition
