"""The worker's side: claims, leases, ends that are written once."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, update

from sinas.context import AppContext
from sinas.models import ExecutionStatus, Function, User, Worker
from sinas.resources.executions import attempts
from sinas.resources.executions.ending import failed
from sinas.resources.executions.events import channel, wait_for_end
from sinas.resources.executions.jobs import ORPHANED, SWEEPS
from sinas.worker import RunningWorker
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.resources.executions.support import load, queued, until

SLEEP = "import time\ndef handler(i, c):\n    time.sleep(60)"


@pytest.fixture
async def function(context: AppContext) -> Function:
    return await make_function(context, await make_user(context), SLEEP)


async def test_only_one_claim_wins(context: AppContext, function: Function) -> None:
    row = await make_execution(context, function)
    claims = []
    async with asyncio.TaskGroup() as group:
        claims = [group.create_task(attempts.claim(context, row.id, uuid4())) for _ in range(5)]
    assert sum(task.result() is not None for task in claims) == 1


async def test_an_end_is_written_once_and_only_by_its_worker(
    context: AppContext, function: Function
) -> None:
    row = await make_execution(context, function)
    owner = uuid4()
    assert await attempts.claim(context, row.id, owner) is not None
    assert not await attempts.finish(context, row.id, uuid4(), failed("not mine").columns())
    assert await attempts.finish(context, row.id, owner, failed("mine").columns())
    assert not await attempts.finish(context, row.id, owner, failed("again").columns())
    assert (await load(context, row)).error == "mine"


async def test_the_calls_of_a_dead_worker_fail_and_waiting_callers_hear_of_it(
    context: AppContext, function: Function
) -> None:
    row = await make_execution(context, function)
    alive = await make_execution(context, function)
    worker = uuid4()
    async with context.unit() as unit:
        await unit.session.execute(
            insert(Worker).values(
                id=worker,
                queue="q",
                hostname="h",
                pid=1,
                max_jobs=1,
                lease_until=func.now() + func.make_interval(0, 0, 0, 0, 0, 1),
            )
        )
    await attempts.claim(context, row.id, uuid4())
    await attempts.claim(context, alive.id, worker)
    async with context.signals.listen(channel(row.id)) as listener:
        await SWEEPS[1].run(context)
        end = await wait_for_end(context, listener, row.id, 5)
    assert end is not None
    assert (end.status, end.error) == (ExecutionStatus.FAILED, ORPHANED)
    assert (await load(context, alive)).status is ExecutionStatus.RUNNING


async def test_a_call_whose_function_or_owner_is_gone_fails(
    context: AppContext, function_worker: RunningWorker
) -> None:
    user = await make_user(context)
    deleted = await make_function(context, user)
    orphan = await make_execution(context, deleted)
    kept = await make_function(context, user)
    async with context.unit() as unit:
        await unit.session.delete(await unit.session.get_one(Function, deleted.id))
    await queued(context, orphan)
    assert "deleted" in str((await until(context, orphan, ExecutionStatus.FAILED)).error)
    row = await make_execution(context, kept)
    async with context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == user.id).values(is_active=False))
    await queued(context, row)
    assert "deactivated" in str((await until(context, row, ExecutionStatus.FAILED)).error)


async def test_waiting_ends_without_an_end_when_time_is_up(
    context: AppContext, function: Function
) -> None:
    row = await make_execution(context, function)
    async with context.signals.listen(channel(row.id)) as listener:
        assert await wait_for_end(context, listener, row.id, 0.05) is None


async def test_a_missed_announcement_is_made_up_for_by_the_row(
    context: AppContext, function: Function
) -> None:
    row = await make_execution(
        context, function, status=ExecutionStatus.COMPLETED, output_data={"a": 1}
    )
    async with context.signals.listen(channel(row.id)) as listener:
        end = await wait_for_end(context, listener, row.id, 0.05)
    assert end is not None
    assert (end.status, end.result) == (ExecutionStatus.COMPLETED, {"a": 1})


async def test_pushing_again_leaves_a_waiting_job_where_it_is(
    context: AppContext, function: Function
) -> None:
    row = await make_execution(context, function)
    await queued(context, row)
    [(_, before)] = await context.redis.zrange("sinas:queue:functions", 0, -1, withscores=True)
    await asyncio.sleep(0.01)
    await queued(context, row)
    [(_, after)] = await context.redis.zrange("sinas:queue:functions", 0, -1, withscores=True)
    assert before == after
