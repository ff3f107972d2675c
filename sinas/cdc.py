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
from sinas.resources.database_triggers import repository
from sinas.resources.database_triggers.polling import look
from sinas.settings import Settings, load_settings

log = structlog.get_logger(__name__)

_TICK_SECONDS = 0.25
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
        group.create_task(_renew(context, process))
        looking: set[asyncio.Task[None]] = set()
        while True:
            for trigger in await _due(context, process, _AT_ONCE - len(looking)):
                task = group.create_task(look(context, trigger, process))
                looking.add(task)
                task.add_done_callback(looking.discard)
            await asyncio.sleep(_TICK_SECONDS)


async def _due(context: AppContext, process: UUID, limit: int) -> list[DatabaseTrigger]:
    if limit <= 0:
        return []
    try:
        async with context.unit() as unit:
            return list(await repository.take_due(unit.session, process, limit))
    except Exception:
        # Our own database is away; it is asked again.
        log.exception("cdc.take_failed")
        await asyncio.sleep(1)
        return []


async def _renew(context: AppContext, process: UUID) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            async with context.unit() as unit:
                await repository.renew(unit.session, process)
        except Exception:
            log.warning("cdc.renew_failed", exc_info=True)
