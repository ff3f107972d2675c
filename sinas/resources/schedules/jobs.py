"""The scheduler's part: what is due is started, once, whoever of several schedulers sees it."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import SinasError
from sinas.kit.cron import Cron, CronError, time_zone
from sinas.models import Schedule
from sinas.queue.job import Sweep
from sinas.resources.schedules import repository
from sinas.resources.schedules.firing import start

log = structlog.get_logger(__name__)

SKIPPED = "skipped: the last run has not ended"
_BATCH = 100


async def fire_due(context: AppContext) -> None:
    """Start what is due. However many times a schedule has missed, it starts once."""
    while True:
        async with context.statement_unit() as unit:
            keys = await repository.due(unit.session, _BATCH)
        fired = [key for key in keys if await _fire(context, key)]
        if len(fired) < _BATCH:
            return


async def _fire(context: AppContext, schedule_id: UUID) -> bool:
    """Start one schedule and say when it is next due, in one transaction: both or neither."""
    async with context.unit() as unit:
        due = await repository.take_due(unit.session, schedule_id)
        if due is None:
            return False
        await repository.note(unit.session, schedule_id, await _outcome(context, unit, due))
    return True


async def _outcome(
    context: AppContext, unit: Unit, due: Row[Schedule, bool, datetime]
) -> dict[str, Any]:
    schedule, is_busy, now = due
    try:
        cron = Cron(schedule.cron_expression)
        next_run = cron.next_after(now, time_zone(schedule.timezone))
    except CronError as error:
        # Saved with other rules than today's, such as a zone that was abolished.
        log.warning("schedules.stopped", schedule_id=str(schedule.id), error=str(error))
        return {"is_active": False, "next_run": None, "last_error": f"stopped: {error}"}
    if is_busy and not schedule.allow_overlap:
        log.info("schedules.skipped", schedule_id=str(schedule.id))
        return {"next_run": next_run, "last_error": SKIPPED}
    try:
        # Undone alone when it fails: that it was tried is noted all the same, so that what can
        # never start is not tried again every second.
        async with unit.session.begin_nested():
            return {"next_run": next_run, **await start(context, unit, schedule, now)}
    except SinasError as error:
        log.warning("schedules.not_started", schedule_id=str(schedule.id), error=error.message)
        return {"next_run": next_run, "last_error": error.message}
    except Exception:
        log.exception("schedules.failed", schedule_id=str(schedule.id))
        told = "The platform could not start it; its log says why."
        return {"next_run": next_run, "last_error": told}


SWEEPS = (
    Sweep(
        name="schedules.fire",
        every=timedelta(seconds=1),
        work=fire_due,
        due=repository.IS_DUE,
    ),
)
