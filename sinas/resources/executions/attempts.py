"""SQL of attempts: a worker takes an execution, ends it or puts it back; sweeps find the lost.

What every call needs is one statement, built once: building and hashing it for each call would
cost more than the server's work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Integer,
    Interval,
    Row,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    not_,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.db.direct import Statement, any_row
from sinas.kit.json_types import JsonObject
from sinas.models import (
    Environment,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Function,
    TriggerType,
    User,
)
from sinas.queue.lease import owner_is_dead
from sinas.resources.artifacts.service import NewArtifact, store

_STALE = timedelta(seconds=5)
_TAKEN = (ExecutionStatus.RUNNING, ExecutionStatus.AWAITING_INPUT)
_executions: Any = Execution.__table__

_claimed = (
    update(Execution)
    .where(Execution.id == bindparam("key"), Execution.status == ExecutionStatus.PENDING)
    .values(
        status=ExecutionStatus.RUNNING,
        lease_owner=bindparam("owner"),
        started_at=func.clock_timestamp(),
        attempt=Execution.attempt + 1,
    )
    .returning(
        Execution.id,
        Execution.kind,
        Execution.user_id,
        Execution.function_id,
        Execution.function_namespace,
        Execution.function_name,
        Execution.trigger_type,
        Execution.trigger_data,
        Execution.chat_id,
        Execution.input_data,
        Execution.timeout_seconds,
        Execution.access,
        Execution.attempt,
        Execution.depth,
        Execution.traceparent,
    )
    .cte("claimed")
)
_environment = select(Environment.id).where(Environment.is_current).scalar_subquery()
_CLAIM = Statement(
    select(
        _claimed,
        User.email,
        User.is_active,
        case(
            (_claimed.c.kind == ExecutionKind.CODE, _claimed.c.input_data["code"].astext),
            else_=Function.code,
        ).label("code"),
        Function.output_schema,
        func.coalesce(Function.shared_pool, false()).label("shared"),
        func.coalesce(Function.idempotent, false()).label("idempotent"),
        Function.retry,
        Function.enabled_secrets,
        _environment.label("environment"),
    )
    .join(User, User.id == _claimed.c.user_id)
    .outerjoin(Function, Function.id == _claimed.c.function_id)
)
_held = (
    Execution.id == bindparam("key"),
    Execution.lease_owner == bindparam("owner"),
    or_(*(Execution.status == taken for taken in _TAKEN)),
)
_end: dict[str, Any] = {
    "output_data": bindparam("new_output", type_=Execution.output_data.type),
    "error": bindparam("new_error"),
    "traceback": bindparam("new_traceback"),
    "stdout": bindparam("new_stdout"),
    "stderr": bindparam("new_stderr"),
    "duration_ms": bindparam("new_duration_ms"),
    "prompt": null(),
    "answer": null(),
}
_FINISH = Statement(
    update(Execution)
    .where(*_held)
    .values(
        **_end,
        status=bindparam("new_status"),
        completed_at=func.clock_timestamp(),
        dead_lettered_at=case(
            (
                and_(Execution.background, bindparam("failed", type_=Boolean())),
                func.clock_timestamp(),
            )
        ),
    )
    .returning(Execution.id)
)
_PUT_BACK = Statement(
    update(Execution)
    .where(*_held)
    .values(
        **_end,
        status=ExecutionStatus.PENDING,
        lease_owner=null(),
        queued_at=func.clock_timestamp() + bindparam("delay", type_=Interval()),
    )
    .returning(Execution.id)
)


_DISCLAIM = Statement(
    update(Execution)
    .where(*_held)
    .values(status=ExecutionStatus.PENDING, lease_owner=null(), attempt=Execution.attempt - 1)
    .returning(Execution.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What one attempt needs to know.

    Attributes:
        code: None when the function is gone.
        email: Of the user it runs as, who may be inactive by now.
        environment: Id of the environment that is current, None for none.
    """

    id: UUID
    kind: ExecutionKind
    user_id: UUID
    function_id: UUID | None
    function_namespace: str
    function_name: str
    trigger_type: TriggerType
    trigger_data: JsonObject | None
    chat_id: UUID | None
    input_data: JsonObject
    timeout_seconds: int
    access: dict[str, bool] | None
    attempt: int
    depth: int
    traceparent: str | None
    email: str
    is_active: bool
    code: str | None
    output_schema: JsonObject
    shared: bool
    idempotent: bool
    retry: JsonObject | None
    enabled_secrets: list[str] | None
    environment: str | None


async def claim(context: AppContext, execution_id: UUID, owner: UUID) -> Claimed | None:
    """Take a pending execution for the worker `owner`: all its run needs, in one round trip.

    None when it is not pending (any more): somebody else runs it or it ended.
    """
    row = await context.direct.one(_CLAIM, {"key": execution_id, "owner": owner})
    if row is None:
        return None
    values = dict(row)
    values["kind"] = ExecutionKind(values["kind"])
    values["trigger_type"] = TriggerType(values["trigger_type"])
    return Claimed(**values)


async def disclaim(context: AppContext, execution_id: UUID, owner: UUID) -> None:
    """Make it pending again if `owner` claimed it; as if that had never happened."""
    await context.direct.one(_DISCLAIM, {"key": execution_id, "owner": owner})


async def finish(
    context: AppContext,
    execution_id: UUID,
    owner: UUID,
    end: Mapping[str, Any],
    artifacts: Sequence[NewArtifact] = (),
) -> bool:
    """Write the terminal state. False when the row is no longer this worker's to write."""
    failed = end["status"] is ExecutionStatus.FAILED
    parameters = _parameters(execution_id, owner, end) | {"failed": failed}
    if not artifacts:
        return await context.direct.one(_FINISH, parameters) is not None
    async with context.unit() as unit:
        held = await unit.one(_FINISH, parameters) is not None
        if held:
            await store(unit.session, artifacts)
        return held


async def put_back(
    context: AppContext, execution_id: UUID, owner: UUID, end: Mapping[str, Any], delay: timedelta
) -> bool:
    """Make it pending again, due after `delay`, with how this attempt ended kept until then.

    False when the row is no longer this worker's to write.
    """
    parameters = _parameters(execution_id, owner, end)
    del parameters["new_status"]
    return await context.direct.one(_PUT_BACK, parameters | {"delay": delay}) is not None


def _parameters(execution_id: UUID, owner: UUID, end: Mapping[str, Any]) -> dict[str, Any]:
    values = {f"new_{name}": value for name, value in end.items()}
    return {"key": execution_id, "owner": owner, **values}


def _is_shared(functions: Any) -> Any:
    return func.coalesce(functions.shared_pool, false())


_unqueued = select(_executions.c.id).where(
    _executions.c.status == ExecutionStatus.PENDING,
    _executions.c.queued_at < func.clock_timestamp() - _STALE,
)
UNQUEUED_IS_DUE = any_row(_unqueued)
_due = (
    _unqueued.order_by(_executions.c.queued_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_shared = (
    select(Function.shared_pool)
    .where(Function.id == _executions.c.function_id)
    .correlate(_executions)
    .scalar_subquery()
)
_TAKE_UNQUEUED: Any = (
    update(_executions)
    .where(_executions.c.id.in_(_due.scalar_subquery()))
    .values(queued_at=func.clock_timestamp())
    .returning(
        _executions.c.id, _executions.c.depth, func.coalesce(_shared, false()).label("shared")
    )
)
_again = and_(
    func.coalesce(Function.idempotent, false()),
    _executions.c.attempt
    < func.coalesce(
        cast(Function.retry["max_attempts"].astext, Integer), bindparam("attempts", type_=Integer())
    ),
)
_is_orphan = and_(_executions.c.status.in_(_TAKEN), owner_is_dead(_executions.c.lease_owner))
REAP_IS_DUE = any_row(select(_executions.c.id).where(_is_orphan))
_orphans = (
    select(_executions.c.id, _again.label("again"), _is_shared(Function).label("shared"))
    .outerjoin_from(_executions, Function, Function.id == _executions.c.function_id)
    .where(_is_orphan)
    .with_for_update(of=_executions, skip_locked=True)
    .cte("orphans")
)
_REAP: Any = (
    update(_executions)
    .where(_executions.c.id == _orphans.c.id)
    .values(
        status=case((_orphans.c.again, ExecutionStatus.PENDING), else_=ExecutionStatus.FAILED),
        error=bindparam("told"),
        lease_owner=null(),
        queued_at=case((_orphans.c.again, func.clock_timestamp()), else_=_executions.c.queued_at),
        completed_at=case((not_(_orphans.c.again), func.clock_timestamp())),
        dead_lettered_at=case(
            (
                and_(not_(_orphans.c.again), _executions.c.background),
                func.clock_timestamp(),
            )
        ),
        prompt=null(),
        answer=null(),
    )
    .returning(_executions.c.id, _executions.c.depth, _orphans.c.shared, _orphans.c.again)
)


async def take_unqueued(session: AsyncSession, limit: int) -> Sequence[Row[Any]]:
    """Pending executions that should have begun long ago: `id`, `depth`, `shared`."""
    found = await session.execute(_TAKE_UNQUEUED, {"most": limit})
    return sorted(found.all(), key=lambda row: row.id)


async def reap(session: AsyncSession, error: str, attempts: int) -> Sequence[Row[Any]]:
    """Take what dead workers were running: pending again where that does no harm, else failed.

    `attempts` counts where a function says nothing. Answers `id`, `depth`, `shared`, `again`.
    """
    return (await session.execute(_REAP, {"told": error, "attempts": attempts})).all()
