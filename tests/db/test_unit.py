"""The unit of work: what is deferred happens after the commit, or not at all."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from sinas.context import AppContext
from sinas.db.unit import QueuedJob, unit_of_work
from sinas.models import Role, User
from sinas.queue.client import JobQueue
from sinas.queue.job import Queue
from tests.fixtures.database import QueryCounter
from tests.support.lanes import jobs_in

JOB = QueuedJob(queue=Queue.AGENTS, name="tests.run", job_id="tests.run:1", args=("1",))


class InterruptedByTestError(Exception):
    """Stands for whatever ends a request."""


class Unreachable:
    """A sink whose Redis is gone."""

    async def push(self, jobs: Sequence[QueuedJob]) -> None:
        raise ConnectionError("no Redis")

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        raise ConnectionError("no Redis")


async def emails(context: AppContext) -> set[str]:
    async with context.unit() as unit:
        return set(await unit.session.scalars(select(User.email)))


async def test_rollback_drops_rows_jobs_and_actions(context: AppContext) -> None:
    done: list[str] = []

    async def act() -> None:
        done.append("acted")

    async def interrupted() -> None:
        async with context.unit() as unit:
            unit.session.add(User(email="gone@example.com"))
            await unit.session.flush()
            unit.queue_job(JOB)
            unit.after_commit(act)
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        await interrupted()
    assert "gone@example.com" not in await emails(context)
    assert await jobs_in(context, Queue.AGENTS) == 0
    assert await context.redis.keys("*") == []
    assert done == []


async def test_jobs_then_actions_run_once_the_rows_are_visible(context: AppContext) -> None:
    seen: list[tuple[bool, int]] = []

    async def look() -> None:
        there = "kept@example.com" in await emails(context)
        seen.append((there, await jobs_in(context, Queue.AGENTS)))

    async with context.unit() as unit:
        unit.after_commit(look)
        unit.queue_job(JOB)
        unit.session.add(User(email="kept@example.com"))
        assert await jobs_in(context, Queue.AGENTS) == 0
    assert seen == [(True, 1)]


async def test_a_failing_commit_drops_what_waited(context: AppContext) -> None:
    async def commit_bad() -> None:
        async with context.unit() as unit:
            unit.queue_job(JOB)
            unit.session.add_all([Role(name="twice"), Role(name="twice")])

    with pytest.raises(DBAPIError):
        await commit_bad()
    assert await jobs_in(context, Queue.AGENTS) == 0


async def test_a_lost_push_does_not_undo_the_transaction(context: AppContext) -> None:
    later: list[str] = []

    async def act() -> None:
        later.append("acted")

    with capture_logs() as logs:
        async with unit_of_work(context.sessions, Unreachable()) as unit:
            unit.session.add(User(email="kept@example.com"))
            unit.queue_job(JOB)
            unit.after_commit(act)
    assert "kept@example.com" in await emails(context)
    assert later == ["acted"]
    assert [entry["event"] for entry in logs] == ["jobs.push_failed"]


async def test_a_failing_action_does_not_stop_the_next(context: AppContext) -> None:
    done: list[str] = []

    async def fail() -> None:
        raise ValueError("no")

    async def act() -> None:
        done.append("acted")

    with capture_logs() as logs:
        async with context.unit() as unit:
            unit.after_commit(fail)
            unit.after_commit(act)
    assert done == ["acted"]
    assert [entry["event"] for entry in logs] == ["after_commit.failed"]


async def test_a_job_pushed_twice_is_one_entry(context: AppContext) -> None:
    async with context.unit() as unit:
        unit.queue_job(JOB)
        unit.queue_job(JOB)
    assert await jobs_in(context, Queue.AGENTS) == 1


async def test_a_delayed_job_waits_without_waking_anybody(context: AppContext) -> None:
    queue = JobQueue(context.redis)
    await queue.push(
        [QueuedJob(queue=Queue.AGENTS, name="x.y", job_id="x", delay=timedelta(minutes=1))]
    )
    due = await context.redis.zscore(Queue.AGENTS, "x")
    now = (await context.redis.time())[0] * 1000
    assert due is not None
    assert 50_000 < due - now <= 61_000
    assert not await context.redis.exists(f"{Queue.AGENTS}:wake")


async def test_a_read_costs_one_statement(context: AppContext, query_counter: QueryCounter) -> None:
    with query_counter() as queries:
        async with context.unit() as unit:
            await unit.session.scalar(select(func.count()).select_from(User))
    assert queries.count == 1, queries.statements
