"""One look of one trigger, however it learns what changed, and when the next one is."""

from datetime import timedelta
from uuid import UUID

import structlog

from sinas.context import AppContext
from sinas.databases.base import Database, UnreachableError
from sinas.errors import ConflictError, LeaseLostError, SinasError, UpstreamError
from sinas.models import DatabaseTrigger, TriggerMode
from sinas.resources.database_connections.service import DatabaseConnectionService
from sinas.resources.database_triggers import polling, replication, repository, source
from sinas.resources.database_triggers.batches import Batches
from sinas.resources.database_triggers.position import backoff

log = structlog.get_logger(__name__)

_LOOK_AGAIN = timedelta(seconds=1)
_UNKNOWN = "The platform could not look at the table; its log says why."


async def look(context: AppContext, trigger: DatabaseTrigger, process: UUID) -> None:
    """Look once, as far as there is anything, and say when to look again. Never raises.

    `trigger` is as it was when `process` took its lease.
    """
    log_ = log.bind(trigger_id=str(trigger.id))
    try:
        waits_for = await _look(context, trigger, process)
    except LeaseLostError:
        log_.info("database_triggers.lease_lost")
        # Where it was changed rather than taken over, the lease is still to be given back.
        await _done(context, trigger, process, timedelta(0), None)
    except SinasError as error:
        log_.warning("database_triggers.failed", error=error.message)
        await _fail(context, trigger, process, error.message)
    except Exception:
        log_.exception("database_triggers.failed")
        await _fail(context, trigger, process, _UNKNOWN)
    else:
        pause = timedelta(seconds=trigger.poll_interval_seconds)
        if waits_for is not None:
            pause = min(pause, _LOOK_AGAIN)
        await _done(context, trigger, process, pause, waits_for or None)


async def _look(context: AppContext, trigger: DatabaseTrigger, process: UUID) -> str | None:
    """None when all that there was is started; else why something waits, '' for not yet long.

    Raises:
        SinasError: The database, the function or the owner's rights are in the way.
        LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
    """
    batches = Batches(context, trigger, process)
    owner = await batches.owner()
    async with context.statement_unit() as unit:
        connections = DatabaseConnectionService(unit, owner, context.cipher)
        row = await connections.by_id(trigger.database_connection_id)
        target = connections.target(row)
    try:
        # No transaction of ours is open while the user's database is asked.
        async with context.databases.database(target) as database:
            waits = await _ask(batches, database)
    except UnreachableError as error:
        log.warning("database_triggers.unreachable", error=error.message)
        raise UpstreamError(source.unreachable(target)) from error
    if batches.rejected is not None:
        raise ConflictError(batches.rejected)
    return waits


async def _ask(batches: Batches, database: Database) -> str | None:
    if batches.trigger.mode == TriggerMode.REPLICATION:
        return await replication.ask(batches, database)
    return await polling.ask(batches, database)


async def _fail(context: AppContext, trigger: DatabaseTrigger, process: UUID, message: str) -> None:
    failures = trigger.failures + 1
    try:
        async with context.unit() as unit:
            await repository.release(
                unit.session,
                trigger,
                process,
                backoff(failures),
                error_message=message,
                failures=failures,
            )
    except Exception:
        # Our own database is away: the lease runs out, and whoever lives then looks again.
        log.warning("database_triggers.not_noted", trigger_id=str(trigger.id), exc_info=True)


async def _done(
    context: AppContext,
    trigger: DatabaseTrigger,
    process: UUID,
    pause: timedelta,
    message: str | None,
) -> None:
    try:
        async with context.unit() as unit:
            await repository.release(
                unit.session, trigger, process, pause, error_message=message, failures=0
            )
    except Exception:
        log.warning("database_triggers.not_noted", trigger_id=str(trigger.id), exc_info=True)
