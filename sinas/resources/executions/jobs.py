"""The job that runs one execution, and the sweeps that find executions nobody runs."""

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sinas.auth.tokens import AccessClaims
from sinas.context import AppContext, WorkerContext
from sinas.db.unit import Unit
from sinas.errors import LeaseLostError, UnavailableError
from sinas.kit.json_types import JsonObject
from sinas.models import ExecutionKind, ExecutionStatus
from sinas.queue.job import Queue, Sweep, job
from sinas.queue.lanes import function_lane
from sinas.resources.dependencies.service import packages_held
from sinas.resources.executions import attempts
from sinas.resources.executions.attempts import Claimed
from sinas.resources.executions.code import ending_of_code
from sinas.resources.executions.ending import Ending, ending_of, failed, is_cheap
from sinas.resources.executions.events import announce, channel, end_message
from sinas.resources.executions.pausing import answers
from sinas.resources.executions.retrying import Again, RetryPolicy
from sinas.resources.executions.traces import attempt_span, say_end
from sinas.resources.secrets.service import UnreadableSecretError, secret_values
from sinas.sandbox.base import Invocation, Outcome
from sinas.settings import FunctionSettings
from sinas.tracing.spans import current_span

log = structlog.get_logger(__name__)

STOPPED = "The worker stopped before the call ended."
ORPHANED = "The worker running this call stopped before it ended; the call may have run in part."
_REQUEUE_LIMIT = 500
# Values that PostgreSQL refuses for what they are; writing them again would not help.
_DATA_SQLSTATES = ("22", "23", "54")
_MAX_PAUSE_SECONDS = 2.0


# A week: every call has its own, much shorter limit inside the sandbox.
@job("functions.execute", queue=Queue.FUNCTIONS, timeout=timedelta(days=7))
async def execute(worker: WorkerContext, execution_id: str) -> None:
    """Make one attempt at a pending execution and write how it ended; nothing if it is not."""
    key = UUID(execution_id)
    # From before the claim: whoever cancels a claimed execution finds its task.
    with worker.running.hold(key) as held:
        try:
            row = await attempts.claim(worker.app, key, worker.worker_id)
        except (SQLAlchemyError, OSError):
            if worker.running.is_alone(held):
                await asyncio.shield(_disclaim(worker, key))
            raise
        if row is None:
            return
        with attempt_span(worker.app.tracer, row) as span:
            # Shielded: the process may be about to end, and a cancellation must not cut the
            # write off.
            try:
                ending = await _run(worker, row)
            except asyncio.CancelledError:
                if not held.cancelled:
                    stopped = failed(STOPPED, Again.IF_IDEMPOTENT)
                    await asyncio.shield(_conclude(worker, row, stopped, at_once=True))
                raise
            say_end(span, ending)
            await asyncio.shield(_conclude(worker, row, ending))


def push(
    unit: Unit,
    limits: FunctionSettings,
    execution_id: UUID,
    *,
    depth: int,
    shared: bool,
    delay: timedelta = timedelta(0),
) -> None:
    """Queue an execution after `unit` commits, in the lane of its depth and pool."""
    lane = function_lane(limits, depth=depth, shared=shared)
    execute.enqueue_in(unit, lane, str(execution_id), delay, str(execution_id))


async def _run(worker: WorkerContext, row: Claimed) -> Ending:
    if row.code is None:
        return failed("The function was deleted before the call ran.")
    if not row.is_active:
        return failed("The owner of this call was deactivated before it ran.")
    if worker.sandbox is None:
        return failed("This worker has no sandbox.")
    try:
        async with packages_held(worker, row.environment):
            ask = answers(worker, row.id, lambda: _access_token(worker.app, row))
            secrets = await _secrets(worker.app, row)
            outcome = await worker.sandbox.run(_invocation(worker.app, row, secrets), ask)
    except (UnavailableError, LeaseLostError) as error:
        # A secret that cannot be read stays so, and code that asked has begun.
        for_good = isinstance(error, UnreadableSecretError | LeaseLostError)
        return failed(error.message, Again.NEVER if for_good else Again.ALWAYS)
    except Exception:
        log.exception("executions.sandbox_failed", execution_id=str(row.id))
        return failed("The platform could not run the call; its log says why.", Again.IF_IDEMPOTENT)
    return await _ending(row, outcome)


async def _ending(row: Claimed, outcome: Outcome) -> Ending:
    function = f"{row.function_namespace}/{row.function_name}"
    if outcome.deprecation:
        log.warning("functions.deprecated", function=function, reason=outcome.deprecation)
    try:
        if row.kind is ExecutionKind.CODE:
            return await asyncio.to_thread(ending_of_code, row, outcome)
        if is_cheap(outcome, row.output_schema):
            return ending_of(outcome, row.output_schema)
        # A thread: results have megabytes, and other calls wait on this loop.
        return await asyncio.to_thread(ending_of, outcome, row.output_schema)
    except Exception:
        log.exception("executions.ending_failed", execution_id=str(row.id), function=function)
        return failed("The platform could not read the call's result; its log says why.")


async def _secrets(context: AppContext, row: Claimed) -> JsonObject:
    """What the context of trusted code has besides; nobody else's code gets a secret."""
    if not row.shared:
        return {}
    async with context.statement_sessions() as session:
        values = await secret_values(session, context.cipher, row.user_id, row.enabled_secrets)
    return {"secrets": dict(values)}


def _invocation(context: AppContext, row: Claimed, secrets: JsonObject) -> Invocation:
    assert row.code is not None
    return Invocation(
        execution_id=str(row.id),
        namespace=row.function_namespace,
        name=row.function_name,
        code=row.code,
        input=row.input_data,
        context=_call_context(context, row) | secrets,
        timeout_seconds=row.timeout_seconds,
        kind=row.kind.value,
        environment=row.environment,
        shared=row.shared,
        nested=row.depth > 1,
    )


def _call_context(context: AppContext, row: Claimed) -> JsonObject:
    traceparent = current_span().traceparent
    return {
        **(row.trigger_data or {}),
        "user_id": str(row.user_id),
        "user_email": row.email,
        "access_token": _access_token(context, row),
        "execution_id": str(row.id),
        "trigger_type": row.trigger_type.value,
        "chat_id": None if row.chat_id is None else str(row.chat_id),
        "namespace": row.function_namespace,
        "name": row.function_name,
        # For code that calls others: they go on from it when they get it as a header.
        **({} if traceparent is None else {"traceparent": traceparent}),
    }


def _access_token(context: AppContext, row: Claimed) -> str:
    limits = context.settings.function
    lifetime = min(row.timeout_seconds + limits.token_buffer_seconds, limits.max_token_seconds)
    claims = AccessClaims(
        user_id=row.user_id,
        email=row.email,
        execution_id=row.id,
        depth=row.depth,
        limit=None if row.access is None else tuple(k for k, held in row.access.items() if held),
    )
    return context.signer.mint(claims, timedelta(seconds=lifetime))


async def _conclude(
    worker: WorkerContext, row: Claimed, ending: Ending, *, at_once: bool = False
) -> None:
    """Write how an attempt ended, then have it followed by another one or tell who waits."""
    delay = _delay(worker.app, row, ending, at_once=at_once)
    written = await _write(worker, row.id, ending, delay)
    if written is None:
        log.warning("executions.end_dropped", execution_id=str(row.id), end=ending.status)
    elif delay is not None and written is ending:
        log.info("executions.put_back", execution_id=str(row.id), attempt=row.attempt)
        limits = worker.app.settings.function
        async with worker.app.statement_unit() as unit:
            push(unit, limits, row.id, depth=row.depth, shared=row.shared, delay=delay)
    else:
        await announce(worker.app.redis, row.id, written.status, written.output_json, written.error)


def _delay(context: AppContext, row: Claimed, ending: Ending, *, at_once: bool) -> timedelta | None:
    """How long until the next attempt; None when this was the last one."""
    if ending.again is Again.NEVER or (ending.again is Again.IF_IDEMPOTENT and not row.idempotent):
        return None
    policy = RetryPolicy.of(row.retry, context.settings.queue)
    if row.attempt >= policy.max_attempts:
        return None
    return timedelta(0) if at_once else policy.delay_after(row.attempt)


async def _disclaim(worker: WorkerContext, execution_id: UUID) -> None:
    """Take back a claim whose answer was lost, when the database is there again.

    This worker lives, so nobody else would ever look at what carries its name.
    """
    pause = 0.1
    while not worker.lease_lost.is_set():
        try:
            await attempts.disclaim(worker.app, execution_id, worker.worker_id)
        except (SQLAlchemyError, OSError):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        else:
            return


async def _write(
    worker: WorkerContext, execution_id: UUID, ending: Ending, delay: timedelta | None
) -> Ending | None:
    """Write the end, however long the database is away; what was written, or None.

    None means that the row was not this worker's any more: it was cancelled, or the lease had
    run out; whoever waited has been told.
    """
    pause = 0.1
    while True:
        keys = worker.app, execution_id, worker.worker_id, ending.columns()
        try:
            held = await (
                attempts.finish(*keys, ending.artifacts)
                if delay is None
                else attempts.put_back(*keys, delay)
            )
        except (SQLAlchemyError, OSError) as error:
            if _is_refused(error):
                log.exception("executions.end_refused", execution_id=str(execution_id))
                ending = failed("The call ended, but its result cannot be stored.")
                delay = None
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
        rows = await attempts.take_unqueued(unit.session, _REQUEUE_LIMIT)
        for row in rows:
            push(unit, context.settings.function, row.id, depth=row.depth, shared=row.shared)


async def _reap(context: AppContext) -> None:
    """Take what dead workers were running: run again what is idempotent, fail the rest.

    Code that began may have had effects, and only its author knows whether those may repeat.
    """
    limit = context.settings.queue.max_retries
    lost = end_message(ExecutionStatus.FAILED, b"null", ORPHANED)
    async with context.statement_unit() as unit:
        for row in await attempts.reap(unit.session, ORPHANED, limit):
            log.warning("executions.orphaned", execution_id=str(row.id), again=row.again)
            if row.again:
                push(unit, context.settings.function, row.id, depth=row.depth, shared=row.shared)
            else:
                unit.publish(channel(row.id), lost)


SWEEPS = (
    Sweep(
        name="executions.requeue",
        every=timedelta(seconds=2),
        work=_requeue,
        due=attempts.UNQUEUED_IS_DUE,
    ),
    Sweep(name="executions.reap", every=timedelta(seconds=1), work=_reap, due=attempts.REAP_IS_DUE),
)
