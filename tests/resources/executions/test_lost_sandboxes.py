"""Sandboxes that vanish under their calls: the pool heals, calls are run again or say why not."""

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Any

import docker
import pytest

from sinas.context import AppContext
from sinas.models import ExecutionStatus
from sinas.worker import RunningWorker, open_worker
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed
from tests.fixtures.state import in_own_task
from tests.resources.executions.support import queued, running_in, until

NAP = "import time\ndef handler(i, c):\n    time.sleep(5)\n    return 'whole'"


def busy(worker: RunningWorker, *, shared: bool) -> dict[str, int]:
    """The containers with calls in them, and how many."""
    assert worker.context.sandbox is not None
    status = worker.context.sandbox.status()
    members = status.shared if shared else status.in_use
    return {member.name: member.running for member in members if member.running}


def kill(names: Iterable[str]) -> None:
    client = docker.from_env()
    for name in names:
        client.api.kill(name)
    client.close()


@pytest.mark.docker
@pytest.mark.parametrize("shared", [False, True])
async def test_containers_that_are_killed_under_their_calls(
    context: AppContext, as_: SignIn, shared: bool
) -> None:
    owner = await as_.user("user")
    retry = {"max_attempts": 3, "delay_seconds": 0}
    pool: dict[str, Any] = {"shared_pool": shared, "retry": retry}
    safe = await make_function(context, owner, NAP, idempotent=True, **pool)
    unsafe = await make_function(context, owner, NAP, **pool)
    await make_function(context, owner, name="after", shared_pool=shared)
    settings = changed(context.settings, sandbox={"backend": "docker"})
    chosen = dataclasses.replace(context, settings=settings)
    async with in_own_task(open_worker("functions", chosen)) as worker:
        calls = [await make_execution(context, function) for function in (safe, unsafe)]
        for call in calls:
            await queued(context, call)
            await running_in(worker, call)
        async with asyncio.timeout(20):
            while sum((names := busy(worker, shared=shared)).values()) < len(calls):
                await asyncio.sleep(0.02)
        await asyncio.to_thread(kill, names)
        failed = await until(context, calls[1], ExecutionStatus.FAILED)
        assert failed.error is not None
        assert "sandbox" in failed.error
        assert failed.attempt == 1
        again = await until(context, calls[0], ExecutionStatus.COMPLETED)
        assert (again.attempt, again.output_data, again.error) == (2, "whole", None)
        answer = await (await as_("user")).post("/functions/default/after/execute", json={})
        assert answer.json()["status"] == "success"
