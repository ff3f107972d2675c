"""The scheduler process: runs every sweep of the registry, again and again."""

import asyncio
import signal

import structlog
import uvloop

from sinas.context import AppContext, open_context
from sinas.logs import configure_logging
from sinas.queue.job import AnySweep
from sinas.registry import RESOURCES
from sinas.settings import Settings, load_settings

log = structlog.get_logger(__name__)


def run_scheduler() -> None:
    """Sweep until SIGTERM or SIGINT. Blocks. Several may run at once: sweeps lock rows."""
    settings = load_settings()
    configure_logging(settings.core)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    async with open_context(settings) as context, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(repeat(context, sweep))
            for resource in RESOURCES
            for sweep in resource.sweeps
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])
        log.info("scheduler.ready", sweeps=len(tasks))


async def repeat(context: AppContext, sweep: AnySweep) -> None:
    """Run one sweep for ever. An error is logged; the next run comes all the same."""
    while True:
        try:
            await sweep.run(context)
        except Exception:
            log.exception("sweep.failed", sweep=sweep.name)
        await asyncio.sleep(sweep.every.total_seconds())
