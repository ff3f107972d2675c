"""Looking at executions from outside of their worker."""

import asyncio
from uuid import UUID

from sinas.context import AppContext
from sinas.models import Execution, ExecutionStatus, Function
from sinas.queue.job import Queue
from sinas.resources.executions.jobs import push
from sinas.worker import RunningWorker
from tests.support.lanes import jobs_in

Key = Execution | UUID | str


def key_of(row: Key) -> UUID:
    if isinstance(row, Execution):
        return row.id
    return row if isinstance(row, UUID) else UUID(row)


async def load(context: AppContext, row: Key) -> Execution:
    async with context.statement_sessions() as session:
        return await session.get_one(Execution, key_of(row))


async def until(context: AppContext, row: Key, status: ExecutionStatus) -> Execution:
    async with asyncio.timeout(20):
        while (now := await load(context, row)).status is not status:
            await asyncio.sleep(0.02)
    return now


async def queued(context: AppContext, row: Execution) -> None:
    """Push it, as the service does that accepts a call."""
    async with context.unit() as unit:
        function = await unit.session.get(Function, row.function_id) if row.function_id else None
        shared = function is not None and function.shared_pool
        push(unit, context.settings.function, row.id, depth=row.depth, shared=shared)


async def running_in(worker: RunningWorker, row: Execution) -> None:
    """Wait until the worker's sandbox runs it."""
    await until(worker.context.app, row, ExecutionStatus.RUNNING)


async def pending(context: AppContext, lane: str = "") -> int:
    """How many calls wait in a lane."""
    return await jobs_in(context, f"{Queue.FUNCTIONS}{lane}")
