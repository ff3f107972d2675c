"""WorkerLease: one row says which process lives, and whoever holds rows of a dead one is dead."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from sinas.context import AppContext
from sinas.kit.ids import uuid7
from sinas.models import Turn, Worker
from sinas.queue.lease import WorkerLease, owner_is_dead
from tests.factories.chats import make_chat, make_turn
from tests.factories.identity import make_user

PATIENCE = 20


def lease(context: AppContext, seconds: float = 30, **options: Any) -> WorkerLease:
    term = timedelta(seconds=seconds)
    return WorkerLease(context.engine, queue="tests", max_jobs=7, term=term, **options)


@asynccontextmanager
async def kept(lease: WorkerLease) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(lease.keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def workers(context: AppContext) -> list[Worker]:
    async with context.unit() as unit:
        return list(await unit.session.scalars(select(Worker).order_by(Worker.id)))


async def test_acquire_registers_and_release_forgets(context: AppContext) -> None:
    held = lease(context, info=lambda: {"sandbox": {"backend": "process"}})
    await held.acquire()
    [row] = await workers(context)
    assert (row.id, row.pid, row.queue, row.max_jobs) == (held.worker_id, os.getpid(), "tests", 7)
    assert row.info == {"sandbox": {"backend": "process"}}
    assert (row.lease_until - row.started_at).total_seconds() == pytest.approx(30, abs=2)
    await held.release()
    assert await workers(context) == []
    assert not held.lost.is_set()


async def test_keep_renews_and_reports(context: AppContext) -> None:
    reports = iter(range(1000))
    held = lease(context, 0.6, info=lambda: {"report": next(reports)})
    await held.acquire()
    [first] = await workers(context)
    async with kept(held), asyncio.timeout(PATIENCE):
        while (row := (await workers(context))[0]).info == first.info:
            await asyncio.sleep(0.02)
    assert row.lease_until > first.lease_until
    assert not held.lost.is_set()


async def test_a_lease_taken_away_is_lost(context: AppContext) -> None:
    held = lease(context, 0.3)
    await held.acquire()
    async with kept(held):
        async with context.unit() as unit:
            await unit.session.execute(delete(Worker))
        async with asyncio.timeout(PATIENCE):
            await held.lost.wait()


async def test_a_lease_that_cannot_be_renewed_is_lost(context: AppContext) -> None:
    held = lease(context, 0.3)
    await held.acquire()
    # Another transaction holds the row for longer than the term: no renewal gets through.
    async with context.unit() as unit, kept(held):
        await unit.session.execute(select(Worker).with_for_update())
        async with asyncio.timeout(PATIENCE):
            await held.lost.wait()


async def test_a_short_interruption_is_survived(context: AppContext) -> None:
    held = lease(context, 3)
    await held.acquire()
    async with kept(held):
        async with context.unit() as unit:
            await unit.session.execute(select(Worker).with_for_update())
            await asyncio.sleep(1.3)  # one renewal fails
        [before] = await workers(context)
        async with asyncio.timeout(PATIENCE):
            while (await workers(context))[0].lease_until == before.lease_until:
                await asyncio.sleep(0.05)
    assert not held.lost.is_set()


async def test_acquire_frees_what_dead_processes_of_this_host_left(context: AppContext) -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    living, dead, elsewhere = lease(context), lease(context), lease(context)
    for each in (living, dead, elsewhere):
        await each.acquire()
    async with context.unit() as unit:
        for each, values in (
            (dead, {"pid": ended.pid}),
            (elsewhere, {"pid": ended.pid, "hostname": "another/1"}),
        ):
            change = update(Worker).where(Worker.id == each.worker_id)
            await unit.session.execute(change.values(**values))
    newest = lease(context)
    await newest.acquire()
    left = {row.id for row in await workers(context)}
    assert left == {living.worker_id, elsewhere.worker_id, newest.worker_id}


async def test_owner_is_dead(context: AppContext) -> None:
    living, ended = lease(context), lease(context)
    await living.acquire()
    await ended.acquire()
    async with context.unit() as unit:
        past = func.clock_timestamp() - timedelta(seconds=1)
        change = update(Worker).where(Worker.id == ended.worker_id)
        await unit.session.execute(change.values(lease_until=past))
    chat = await make_chat(context, await make_user(context), None)
    owners = {
        "living": living.worker_id,
        "run out": ended.worker_id,
        "unknown": uuid7(),
        "none": None,
    }
    turns = {
        name: await make_turn(context, chat, lease_owner=owner) for name, owner in owners.items()
    }
    async with context.unit() as unit:
        found = set(
            await unit.session.scalars(select(Turn.id).where(owner_is_dead(Turn.lease_owner)))
        )
    assert {name for name, turn in turns.items() if turn.id in found} == {
        "run out",
        "unknown",
        "none",
    }
