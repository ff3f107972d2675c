"""QueueWorker: takes what is pushed, at once, each entry once, through a Redis restart."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from sinas.context import AppContext
from sinas.db.unit import QueuedJob
from sinas.queue import worker as worker_module
from sinas.queue.client import JobQueue
from sinas.queue.job import AnyJob, Queue, job
from sinas.queue.worker import QueueWorker, released_slot
from tests.queue.conftest import OwnRedis
from tests.support.lanes import jobs_in

QUEUE = Queue.AGENTS
PATIENCE = 20


class Bench:
    """What the jobs of these tests did, and what they wait for."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.answered = asyncio.Event()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def run(self, name: str) -> AsyncIterator[None]:
        self.started.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._changed.set()
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.at_once -= 1
            self.ended.append(name)
            self._changed.set()

    async def until(self, *, started: int = 0, ended: int = 0) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.started) < started or len(self.ended) < ended:
                self._changed.clear()
                await self._changed.wait()


@job("tests.note", queue=QUEUE, timeout=timedelta(seconds=30))
async def note(bench: Bench, name: str) -> None:
    async with bench.run(name):
        await bench.gate.wait()


@job("tests.fail", queue=QUEUE, timeout=timedelta(seconds=30))
async def fail(bench: Bench, name: str) -> None:
    async with bench.run(name):
        raise ValueError("a job's own error")


@job("tests.elsewhere", queue=Queue.FUNCTIONS, timeout=timedelta(seconds=30))
async def elsewhere(bench: Bench, name: str) -> None:
    async with bench.run(name):
        return


@job("tests.wait", queue=QUEUE, timeout=timedelta(seconds=30))
async def waits(bench: Bench, name: str) -> None:
    async with bench.run(name):
        with released_slot():
            await bench.answered.wait()


JOBS: Sequence[AnyJob] = (note, fail, elsewhere, waits)


def entry(name: str, *, of: AnyJob = note, **fields: Any) -> QueuedJob:
    fields.setdefault("queue", of.queue)
    return QueuedJob(name=of.name, job_id=f"id:{name}", args=(name,), **fields)


@asynccontextmanager
async def working(redis: Redis, bench: Bench, max_jobs: int = 5) -> AsyncIterator[QueueWorker]:
    worker = QueueWorker(redis, QUEUE, JOBS, bench, {"": max_jobs, ":nested": 1})
    task = asyncio.get_running_loop().create_task(worker.main())
    try:
        yield worker
    finally:
        # Cancelled, a job would go on telling Redis of its end after the test closed it.
        bench.gate.set()
        await worker.drain(PATIENCE)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_pushed_job_runs_with_its_arguments(context: AppContext, bench: Bench) -> None:
    async with working(context.redis, bench):
        await context.queue.push([entry("Ünïcode \" ' name")])
        await bench.until(ended=1)
    assert bench.started == ["Ünïcode \" ' name"]
    assert await jobs_in(context, QUEUE) == 0


async def test_what_was_pushed_before_the_worker_came_runs(
    context: AppContext, bench: Bench
) -> None:
    await context.queue.push([entry(str(number)) for number in range(12)])
    async with working(context.redis, bench):
        await bench.until(ended=12)
    assert sorted(bench.started, key=int) == [str(number) for number in range(12)]


async def test_a_lane_that_was_full_is_heard_again_at_once(
    context: AppContext, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the timers: nothing but the wake-up may start the second job.
    monkeypatch.setattr(worker_module, "_IDLE_SECONDS", 600)
    async with working(context.redis, bench, max_jobs=1):
        bench.gate.clear()
        await context.queue.push([entry("runs")])
        await bench.until(started=1)
        # Its token finds the lane full: from now on the listener leaves that lane to others.
        await context.queue.push([entry("waits")])
        await asyncio.sleep(0.1)
        bench.gate.set()
        await bench.until(ended=2)
        await asyncio.sleep(0.1)
        await context.queue.push([entry("comes later")])
        await bench.until(ended=3)


async def test_an_idle_worker_is_woken(
    context: AppContext, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a poll of ten minutes only the wake-up can start it."""
    monkeypatch.setattr(worker_module, "_IDLE_SECONDS", 600)
    async with working(context.redis, bench):
        for number in range(5):
            await asyncio.sleep(0.02)
            await context.queue.push([entry(str(number))])
            await bench.until(ended=number + 1)


async def test_a_delayed_job_runs_without_another_push(context: AppContext, bench: Bench) -> None:
    async with working(context.redis, bench):
        await context.queue.push([entry("later", delay=timedelta(milliseconds=300))])
        await context.queue.push([entry("now")])
        await bench.until(ended=2)
    assert bench.started == ["now", "later"]


async def test_no_more_jobs_at_once_than_allowed(context: AppContext, bench: Bench) -> None:
    bench.gate.clear()
    async with working(context.redis, bench, max_jobs=3):
        await context.queue.push([entry(str(number)) for number in range(8)])
        await bench.until(started=3)
        await asyncio.sleep(0.05)
        assert len(bench.started) == 3
        assert await jobs_in(context, QUEUE) == 5
        bench.gate.set()
        await bench.until(ended=8)
    assert bench.most_at_once == 3


async def test_a_full_lane_leaves_the_other_its_slots(context: AppContext, bench: Bench) -> None:
    """A job that waits for a job of the next lane gets its answer however full its own lane is."""
    bench.gate.clear()
    async with working(context.redis, bench, max_jobs=2):
        await context.queue.push([entry(str(number)) for number in range(5)])
        await bench.until(started=2)
        await context.queue.push([entry("nested", queue=f"{QUEUE}:nested")])
        await bench.until(started=3)
        assert "nested" in bench.started
        assert await jobs_in(context, QUEUE, f"{QUEUE}:nested") == 3
        bench.gate.set()
        await bench.until(ended=6)
    assert bench.most_at_once == 3


async def test_a_job_that_waits_for_people_lends_its_slot(
    context: AppContext, bench: Bench
) -> None:
    async with working(context.redis, bench, max_jobs=1):
        await context.queue.push([entry("patient", of=waits), entry("other")])
        await bench.until(ended=1)
        assert bench.ended == ["other"]
        bench.answered.set()
        await bench.until(ended=2)
        bench.gate.clear()
        await context.queue.push([entry("a"), entry("b")])
        await bench.until(started=3)
        await asyncio.sleep(0.05)
        assert len(bench.started) == 3
    assert released_outside_of_a_job() == "nothing happens"


def released_outside_of_a_job() -> str:
    with released_slot():
        return "nothing happens"


async def test_a_failing_job_ends_only_itself(context: AppContext, bench: Bench) -> None:
    async with working(context.redis, bench):
        await context.queue.push([entry("bad", of=fail), entry("good")])
        await bench.until(ended=2)
        unknown = QueuedJob(queue=QUEUE, name="tests.gone", job_id="x", args=("x",))
        await context.queue.push([unknown, entry("after")])
        await bench.until(ended=3)
    assert set(bench.started) == {"bad", "good", "after"}
    # Neither is tried again by itself: leases and sweeps decide that.
    assert await jobs_in(context, QUEUE) == 0


async def test_other_queues_are_left_alone(context: AppContext, bench: Bench) -> None:
    async with working(context.redis, bench):
        await context.queue.push([entry("theirs", of=elsewhere), entry("ours")])
        await bench.until(ended=1)
    assert bench.started == ["ours"]
    assert await jobs_in(context, Queue.FUNCTIONS) == 1


async def test_workers_share_without_doubling(context: AppContext, bench: Bench) -> None:
    async with (
        working(context.redis, bench, max_jobs=2),
        working(context.redis, bench, max_jobs=2),
        working(context.redis, bench, max_jobs=2),
    ):
        names = [str(number) for number in range(60)]
        for first, second in pairwise(range(0, 61, 10)):
            await context.queue.push([entry(name) for name in names[first:second]])
        await bench.until(ended=60)
    assert sorted(bench.started, key=int) == names


async def test_an_entry_pushed_twice_runs_once(context: AppContext, bench: Bench) -> None:
    await context.queue.push([entry("same"), entry("same")])
    await context.queue.push([entry("same"), entry("last")])
    async with working(context.redis, bench, max_jobs=1):
        await bench.until(ended=2)
    assert sorted(bench.started) == ["last", "same"]


async def test_an_entry_pushed_while_its_job_runs_runs_afterwards(
    context: AppContext, bench: Bench
) -> None:
    """A turn that waits behind another is pushed again when that one ends; it must not get lost."""
    bench.gate.clear()
    async with working(context.redis, bench, max_jobs=1):
        await context.queue.push([entry("again")])
        await bench.until(started=1)
        await context.queue.push([entry("again")])
        bench.gate.set()
        await bench.until(ended=2)
    assert bench.started == ["again", "again"]


async def test_the_job_of_a_killed_worker_runs_when_pushed_again(
    context: AppContext, bench: Bench
) -> None:
    """A killed process never tells Redis how its job ended; the sweep's push must count."""
    bench.gate.clear()
    async with working(context.redis, bench) as worker:
        await context.queue.push([entry("taken over")])
        await bench.until(started=1)
        for task in worker.tasks.values():
            task.cancel()
        await bench.until(ended=1)
    assert bench.cancelled == ["taken over"]
    assert await jobs_in(context, QUEUE) == 0
    bench.gate.set()
    async with working(context.redis, bench):
        await context.queue.push([entry("taken over")])
        await bench.until(started=2, ended=2)


async def test_a_draining_worker_ends_what_runs_and_takes_no_more(
    context: AppContext, bench: Bench
) -> None:
    bench.gate.clear()
    async with working(context.redis, bench, max_jobs=2) as worker:
        await context.queue.push([entry("one"), entry("two")])
        await bench.until(started=2)
        draining = asyncio.get_running_loop().create_task(worker.drain(PATIENCE))
        await asyncio.sleep(0)
        await context.queue.push([entry("three")])
        bench.gate.set()
        await draining
        assert sorted(bench.ended) == ["one", "two"]
        assert bench.cancelled == []
        await asyncio.sleep(0.05)
        assert len(bench.started) == 2
        assert await jobs_in(context, QUEUE) == 1


async def test_a_drain_that_takes_too_long_cancels(context: AppContext, bench: Bench) -> None:
    bench.gate.clear()
    async with working(context.redis, bench) as worker:
        await context.queue.push([entry("slow")])
        await bench.until(started=1)
        await worker.drain(0.01)
        assert bench.cancelled == ["slow"]


async def test_a_worker_survives_a_redis_restart(own_redis: OwnRedis, bench: Bench) -> None:
    queue = JobQueue(own_redis.client)
    bench.gate.clear()
    async with working(own_redis.client, bench, max_jobs=2):
        await queue.push([entry("before")])
        await bench.until(started=1)
        await own_redis.stop()
        await asyncio.sleep(0.1)
        # A job that was running ends although Redis is gone.
        bench.gate.set()
        await bench.until(ended=1)
        await own_redis.start()
        await queue.push([entry("after")])
        await bench.until(ended=2)
    assert bench.started == ["before", "after"]


async def test_entries_outlive_a_redis_restart(own_redis: OwnRedis, bench: Bench) -> None:
    await JobQueue(own_redis.client).push([entry("kept")])
    await own_redis.stop()
    await own_redis.start()
    async with working(own_redis.client, bench):
        await bench.until(ended=1)
