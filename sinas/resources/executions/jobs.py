"""The job that runs one execution, and the sweeps that find executions nobody runs."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sinas.auth.tokens import AccessClaims
from sinas.context import AppContext, WorkerContext
from sinas.errors import UnavailableError
from sinas.kit.json_types import JsonObject
from sinas.models import ExecutionStatus
from sinas.queue.job import Queue, Sweep, job
from sinas.resources.executions import repository
from sinas.resources.executions.ending import Ending, ending_of, failed, is_cheap
from sinas.resources.executions.events import announce
from sinas.sandbox.base import Invocation, Outcome

log = structlog.get_logger(__name__)

STOPPED = "The worker stopped before the call ended."
ORPHANED = "The worker running this call stopped before it ended; the call may have run in part."
_REQUEUE_SECONDS = 5.0
_REQUEUE_LIMIT = 500
# Values that PostgreSQL refuses for what they are; writing them again would not help.
_DATA_SQLSTATES = ("22", "23", "54")
_MAX_PAUSE_SECONDS = 2.0


# A week: every call has its own, much shorter limit inside the sandbox.
@job("functions.execute", queue=Queue.FUNCTIONS, timeout=timedelta(days=7))
async def execute(worker: WorkerContext, execution_id: str) -> None:
    """Run one pending execution and write how it ended; nothing if it is not pending."""
    key = UUID(execution_id)
    row = await repository.claim(worker.app, key, worker.worker_id)
    if row is None:
        return
    # Shielded: the process may be about to end, and a cancellation must not cut the write off.
    try:
        ending = await _run(worker, row)
    except asyncio.CancelledError:
        await asyncio.shield(_finish(worker, key, failed(STOPPED)))
        raise
    await asyncio.shield(_finish(worker, key, ending))


async def _run(worker: WorkerContext, row: Row[Any]) -> Ending:
    if row.code is None:
        return failed("The function was deleted before the call ran.")
    if not row.is_active:
        return failed("The owner of this call was deactivated before it ran.")
    if worker.sandbox is None:
        return failed("This worker has no sandbox.")
    try:
        outcome = await worker.sandbox.run(_invocation(worker.app, row))
    except UnavailableError as error:
        return failed(error.message)
    except Exception:
        log.exception("executions.sandbox_failed", execution_id=str(row.id))
        return failed("The platform could not run the call; its log says why.")
    return await _ending(row, outcome)


async def _ending(row: Row[Any], outcome: Outcome) -> Ending:
    function = f"{row.function_namespace}/{row.function_name}"
    if outcome.deprecation:
        log.warning("functions.deprecated", function=function, reason=outcome.deprecation)
    try:
        if is_cheap(outcome, row.output_schema):
            return ending_of(outcome, row.output_schema)
        # A thread: results have megabytes, and other calls wait on this loop.
        return await asyncio.to_thread(ending_of, outcome, row.output_schema)
    except Exception:
        log.exception("executions.ending_failed", execution_id=str(row.id), function=function)
        return failed("The platform could not read the call's result; its log says why.")


def _invocation(context: AppContext, row: Row[Any]) -> Invocation:
    return Invocation(
        execution_id=str(row.id),
        namespace=row.function_namespace,
        name=row.function_name,
        code=row.code,
        input=row.input_data,
        context=_call_context(context, row),
        timeout_seconds=row.timeout_seconds,
    )


def _call_context(context: AppContext, row: Row[Any]) -> JsonObject:
    limits = context.settings.function
    lifetime = min(row.timeout_seconds + limits.token_buffer_seconds, limits.max_token_seconds)
    claims = AccessClaims(
        user_id=row.user_id,
        email=row.email,
        execution_id=row.id,
        limit=None if row.access is None else tuple(k for k, held in row.access.items() if held),
    )
    return {
        **(row.trigger_data or {}),
        "user_id": str(row.user_id),
        "user_email": row.email,
        "access_token": context.signer.mint(claims, timedelta(seconds=lifetime)),
        "execution_id": str(row.id),
        "trigger_type": row.trigger_type.value,
        "chat_id": None if row.chat_id is None else str(row.chat_id),
        "namespace": row.function_namespace,
        "name": row.function_name,
    }


async def _finish(worker: WorkerContext, execution_id: UUID, ending: Ending) -> None:
    written = await _write(worker, execution_id, ending)
    if written is None:
        log.warning("executions.end_dropped", execution_id=str(execution_id), end=ending.status)
        return
    await announce(
        worker.app.redis, execution_id, written.status, written.output_json, written.error
    )


async def _write(worker: WorkerContext, execution_id: UUID, ending: Ending) -> Ending | None:
    """Write the end, however long the database is away; what was written, or None.

    None means that the row was not this worker's any more: its lease had run out, and whoever
    waited has been told that the call was lost.
    """
    pause = 0.1
    while True:
        try:
            held = await repository.finish(
                worker.app, execution_id, worker.worker_id, ending.columns()
            )
        except (SQLAlchemyError, OSError) as error:
            if _is_refused(error):
                log.exception("executions.end_refused", execution_id=str(execution_id))
                ending = failed("The call ended, but its result cannot be stored.")
                continue
            log.warning(
                "executions.end_delayed",
                execution_id=str(execution_id),
                error=type(error).__name__,
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        else:
            return ending if held else None


def _is_refused(error: Exception) -> bool:
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(state, str) and state.startswith(_DATA_SQLSTATES)


async def _requeue(context: AppContext) -> None:
    """Push jobs again whose push, or whose entry in Redis, was lost."""
    async with context.statement_unit() as unit:
        keys = await repository.take_unqueued(unit.session, _REQUEUE_SECONDS, _REQUEUE_LIMIT)
        for key in keys:
            execute.enqueue(unit, str(key), timedelta(0), str(key))


async def _reap(context: AppContext) -> None:
    """Fail what dead workers were running. Nothing is run again: it may have had effects."""
    async with context.statement_unit() as unit:
        keys = await repository.fail_orphans(unit.session, ORPHANED)
    for key in keys:
        log.warning("executions.orphaned", execution_id=str(key))
        await announce(context.redis, key, ExecutionStatus.FAILED, b"null", ORPHANED)


SWEEPS = (
    Sweep(name="executions.requeue", every=timedelta(seconds=2), run=_requeue),
    Sweep(name="executions.reap", every=timedelta(seconds=1), run=_reap),
)
