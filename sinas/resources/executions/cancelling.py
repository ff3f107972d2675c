"""Cancelling: executions with all they started, in the database and in the workers."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, null, select, update
from sqlalchemy.exc import SQLAlchemyError

from sinas.chat.stopping import stop_turns
from sinas.context import EXECUTION_CANCEL_PREFIX, AppContext, WorkerContext
from sinas.db.unit import Unit
from sinas.models import TERMINAL_EXECUTION, Execution, ExecutionStatus
from sinas.queue.signals import RESYNC
from sinas.resources.executions.events import channel, end_message

log = structlog.get_logger(__name__)

ABANDONED = "The turn that made this call ended before it."
_RETRY_SECONDS = 0.5


async def cancel_trees(unit: Unit, roots: ColumnElement[bool], reason: str) -> Sequence[UUID]:
    """Cancel the executions `roots` selects and all they started that have not ended.

    After the commit their code is killed, and whoever waits for one of them is told. Turns of
    chats that they began are stopped. Answers the ids of those that were cancelled.
    """
    tree = select(Execution.id).where(roots).cte("tree", recursive=True)
    tree = tree.union(select(Execution.id).join(tree, Execution.parent_execution_id == tree.c.id))
    # In one order, so that two cancellations of overlapping trees wait instead of failing.
    live = (
        select(Execution.id)
        .where(Execution.id.in_(select(tree.c.id)), Execution.status.not_in(TERMINAL_EXECUTION))
        .order_by(Execution.id)
        .with_for_update()
        .cte("live")
    )
    statement = (
        update(Execution)
        .where(Execution.id.in_(select(live.c.id)))
        .values(
            status=ExecutionStatus.CANCELLED,
            error=reason,
            completed_at=func.clock_timestamp(),
            prompt=null(),
            answer=null(),
        )
        .returning(Execution.id)
        .execution_options(synchronize_session=False)
    )
    ended = (await unit.session.scalars(statement)).all()
    if ended:
        await stop_turns(unit, ended)
    message = end_message(ExecutionStatus.CANCELLED, b"null", reason)
    for key in ended:
        unit.publish(f"{EXECUTION_CANCEL_PREFIX}{key}", b"1")
        unit.publish(channel(key), message)
    return ended


async def abandon_calls(context: AppContext, keys: Sequence[str]) -> None:
    """Cancel what tool calls started; `keys` are the calls', which the executions carry."""
    async with context.statement_unit() as unit:
        await cancel_trees(unit, Execution.idempotency_key.in_(keys), ABANDONED)


async def watch_cancels(worker: WorkerContext) -> None:
    """Kill the code of cancelled executions that this worker runs, until cancelled itself."""
    async with worker.app.signals.watch(EXECUTION_CANCEL_PREFIX) as messages:
        while True:
            data = await messages.get()
            keys = [UUID(data.decode())] if data != RESYNC else await _missed(worker)
            for key in keys:
                worker.running.cancel(key)


async def _missed(worker: WorkerContext) -> Sequence[UUID]:
    """What of this worker's was cancelled while nothing could be heard."""
    while running := worker.running.keys():
        statement = select(Execution.id).where(
            Execution.id.in_(running), Execution.status == ExecutionStatus.CANCELLED
        )
        try:
            async with worker.app.statement_sessions() as session:
                return (await session.scalars(statement)).all()
        except (SQLAlchemyError, OSError) as error:
            log.warning("executions.cancels_unknown", error=type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)
    return ()
