"""What tests of the operator's routes share: function workers, and waiting for what they show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.worker import RunningWorker

STATS = "/api/v1/containers/stats"
SLEEP = "import time\ndef handler(i, c):\n    time.sleep(i['seconds'])\n    return 'whole'\n"


@asynccontextmanager
async def function_workers(context: AppContext, count: int) -> AsyncIterator[list[RunningWorker]]:
    """Several function workers in this process, with their pools filled."""
    from sinas.worker import open_worker
    from tests.fixtures.state import in_own_task

    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(in_own_task(open_worker("functions", context)))
            for _ in range(count)
        ]
        for worker in workers:
            await filled(worker)
        yield workers


async def filled(worker: RunningWorker) -> None:
    """Wait for the shared pool, which fills in the background."""
    sandbox = worker.context.sandbox
    assert sandbox is not None
    async with asyncio.timeout(30):
        while not sandbox.status().shared:
            await asyncio.sleep(0.02)


async def shown(
    client: httpx.AsyncClient, path: str, condition: Callable[[Any], bool], seconds: float = 20
) -> Any:
    """What a GET answers once `condition` holds of it."""
    async with asyncio.timeout(seconds):
        while not condition(found := (await client.get(path)).raise_for_status().json()):
            await asyncio.sleep(0.02)
    return found


def names(stats: dict[str, Any]) -> set[str]:
    """Of all containers in an answer of `STATS`."""
    return {one["name"] for one in (*stats["idle_containers"], *stats["in_use_containers"])}
