"""The CDC process: looks at the tables of database triggers when they are due."""

import asyncio
import signal
from uuid import UUID

import structlog
import uvloop

from sinas.context import AppContext, open_context
from sinas.kit.ids import uuid7
from sinas.logs import configure_logging
from sinas.models import DatabaseTrigger
from sinas.resources.database_triggers import repository, slots
from sinas.resources.database_triggers.looking import look
from sinas.settings import Settings, load_settings

log = structlog.get_logger(__name__)

# What is made or changed meanwhile is seen no later than that.
_LONGEST_PAUSE_SECONDS = 1.0
_SHORTEST_PAUSE_SECONDS = 0.05
_RENEW_SECONDS = 2.0
# Tables that are looked at in the same moment: each may keep a connection.
_AT_ONCE = 20


def run_cdc() -> None:
    """Look until SIGTERM or SIGINT. Blocks. Several may run at once: each trigger is leased."""
    settings = load_settings()
    configure_logging(settings.core)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    async with open_context(settings) as context:
        task = asyncio.ensure_future(run(context))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        log.info("cdc.ready")
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def run(context: AppContext) -> None:
    """Look until cancelled. What was begun is given back by its lease running out."""
    process = uuid7()
    async with asyncio.TaskGroup() as group:
        looking: set[asyncio.Task[None]] = set()
        group.create_task(_renew(context, process, looking))
        group.create_task(slots.sweep(context))
        while True:
            due, pause = await _due(context, process, _AT_ONCE - len(looking))
            for trigger in due:
                task = group.create_task(look(context, trigger, process))
                looking.add(task)
                task.add_done_callback(looking.discard)
            await asyncio.sleep(pause)


async def _due(
    context: AppContext, process: UUID, limit: int
) -> tuple[list[DatabaseTrigger], float]:
    """What is to be looked at now, and how long to sleep then."""
    if limit <= 0:
        return [], _SHORTEST_PAUSE_SECONDS
    due: list[DatabaseTrigger] = []
    try:
        seconds = await repository.seconds_to_next(context.direct)
        if seconds is not None and seconds <= 0:
            async with context.unit() as unit:
                due = list(await repository.take_due(unit.session, process, limit))
            seconds = await repository.seconds_to_next(context.direct)
    except Exception:
        # Our own database is away; it is asked again.
        log.exception("cdc.take_failed")
        return [], _LONGEST_PAUSE_SECONDS
    if seconds is None:
        return due, _LONGEST_PAUSE_SECONDS
    return due, min(max(seconds, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)


async def _renew(context: AppContext, process: UUID, looking: set[asyncio.Task[None]]) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        if not looking:
            continue
        try:
            async with context.unit() as unit:
                await repository.renew(unit.session, process)
        except Exception:
            log.warning("cdc.renew_failed", exc_info=True)
