"""`kill -9` of the function worker under load: every call ends once, and says how."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from tests.e2e.killing import Platform, platform
from tests.support.effects import CODE, effects

if TYPE_CHECKING:
    from sinas.models import Execution
    from tests.fixtures.servers import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
IN_FLIGHT = 20
QUEUED = 130
SECONDS = 0.8
_CHUNK = 10


async def test_a_killed_function_worker(servers: Servers, tmp_path: Path) -> None:
    from sinas.models import ExecutionStatus
    from sinas.resources.executions.jobs import ORPHANED

    sizes = {
        "QUEUE_FUNCTION_CONCURRENCY": str(IN_FLIGHT),
        "SANDBOX_MIN_SIZE": str(IN_FLIGHT),
        "SANDBOX_MAX_SIZE": str(IN_FLIGHT + 20),
    }
    async with platform(servers, tmp_path, number=14, **sizes) as running:
        await furnish(running)
        async with ends(running) as told:
            started = await submit(running)
            await until(running, "RUNNING", IN_FLIGHT)
            running.kill("functions")
            in_flight = {row.id for row in await rows(running) if row.status == "RUNNING"}
            running.start("functions")
            await until_all_ended(running)
            stored = await rows(running)
            had = await effects(running.context)
    assert {row.id for row in stored} == started
    # Other tests of the run publish on the same Redis, whatever the database.
    assert {key: told[key] for key in started} == dict.fromkeys(started, 1)
    # One or the other may have ended between the look and the kill.
    assert len(in_flight) > IN_FLIGHT // 2
    for row in stored:
        if row.id not in in_flight:
            wanted = (ExecutionStatus.COMPLETED, None, 1, 1)
            assert (row.status, row.error, row.attempt, had[row.id]) == wanted
        elif row.function_name == "safe":
            assert (row.status, row.attempt) == (ExecutionStatus.COMPLETED, 2)
            assert had[row.id] >= 1
        else:
            assert (row.status, row.error) == (ExecutionStatus.FAILED, ORPHANED)
            assert (row.attempt, row.dead_lettered_at is not None) == (1, True)
            assert had[row.id] <= 1
    both = Counter(row.function_name for row in stored if row.id in in_flight)
    assert both.keys() == {"safe", "unsafe"}


async def furnish(running: Platform) -> None:
    from sinas.models import User
    from tests.factories.functions import make_function

    async with running.context.sessions() as session:
        owner = (await session.scalars(select(User).order_by(User.created_at.desc()))).first()
    assert owner is not None
    for name, idempotent in (("safe", True), ("unsafe", False)):
        await make_function(running.context, owner, CODE, name=name, idempotent=idempotent)


async def submit(running: Platform) -> set[UUID]:
    """Queue all calls, of both functions by turns; their ids."""
    started: set[UUID] = set()
    for number in range((IN_FLIGHT + QUEUED) // _CHUNK):
        name = "unsafe" if number % 2 else "safe"
        answer = await running.client.post(
            f"/functions/default/{name}/execute/batch",
            json={"inputs": [{"seconds": SECONDS}] * _CHUNK},
        )
        assert answer.status_code == 202, answer.text
        started.update(map(UUID, answer.json()["execution_ids"]))
    return started


@asynccontextmanager
async def ends(running: Platform) -> AsyncIterator[Counter[UUID]]:
    """Counts what is announced of each execution."""
    from sinas.context import JOB_DONE_PREFIX

    told: Counter[UUID] = Counter()

    async def count() -> None:
        async with running.context.signals.watch(JOB_DONE_PREFIX) as messages:
            while True:
                if data := await messages.get():
                    told[UUID(data.decode())] += 1

    await running.context.signals.ready()
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        yield told
        counting.cancel()


async def rows(running: Platform) -> Sequence[Execution]:
    from sinas.models import Execution

    async with running.context.sessions() as session:
        return (await session.scalars(select(Execution))).all()


async def counts(running: Platform) -> dict[Any, int]:
    from sinas.models import Execution

    statement = select(Execution.status, func.count()).group_by(Execution.status)
    async with running.context.sessions() as session:
        return {status.value: count for status, count in await session.execute(statement)}


async def until(running: Platform, status: str, wanted: int) -> None:
    async with asyncio.timeout(60):
        while (await counts(running)).get(status, 0) < wanted:
            await asyncio.sleep(0.02)


async def until_all_ended(running: Platform) -> None:
    async with asyncio.timeout(120):
        while (await counts(running)).keys() - {"COMPLETED", "FAILED", "CANCELLED"}:
            await asyncio.sleep(0.1)
