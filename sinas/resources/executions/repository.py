"""SQL of executions: what callers may see, and the few statements that move one along."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    Row,
    ScalarSelect,
    bindparam,
    func,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.context import AppContext
from sinas.crud.repository import Repository
from sinas.models import Chat, Execution, ExecutionStatus, Function, User
from sinas.queue.lease import owner_is_dead

_GIVEN = (
    "id",
    "user_id",
    "access",
    "function_id",
    "function_namespace",
    "function_name",
    "trigger_type",
    "trigger_id",
    "trigger_data",
    "tool_call_id",
    "idempotency_key",
    "background",
    "batch_id",
    "callback_url",
    "callback_status",
    "timeout_seconds",
    "status",
    "input_data",
    "error",
    "completed_at",
    "duration_ms",
)
_NOTHING: dict[str, Any] = {
    **dict.fromkeys((*_GIVEN, "chat_id", "parent_execution_id")),
    "background": False,
    "delay": timedelta(0),
}


def _existing(model: type[Chat] | type[Execution], parameter: str) -> ScalarSelect[UUID]:
    return select(model.id).where(model.id == bindparam(parameter)).scalar_subquery()


# Made once: building and hashing it for each call would cost more than the server's work.
_INSERT_MANY = insert(Execution.__table__).values(  # type: ignore[arg-type]
    {name: bindparam(name) for name in _GIVEN}
    | {
        "queued_at": func.now() + bindparam("delay", type_=Interval()),
        "chat_id": _existing(Chat, "chat_id"),
        "parent_execution_id": _existing(Execution, "parent_execution_id"),
    }
)
_INSERT = _INSERT_MANY.on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(
    Execution.__table__.c.id
)


class ExecutionRepository(Repository[Execution]):
    """Executions, as one caller may see them: their own, or all with the grant for it."""

    model = Execution
    resource = "executions"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        if self.principal.can(f"sinas.executions.{action}:all"):
            return true()
        return Execution.user_id == self.principal.user_id

    async def insert(self, values: Mapping[str, Any]) -> bool:
        """Insert one row; False when its idempotency key is taken.

        A chat or a parent execution that is gone by now is left out instead of failing. Columns
        that `values` does not name are null or have the database's default.
        """
        inserted = await self.session.execute(_INSERT, _NOTHING | dict(values))
        return inserted.first() is not None

    async def insert_many(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows without idempotency keys, in one round trip; otherwise as `insert`."""
        if rows:
            await self.session.execute(_INSERT_MANY, [_NOTHING | dict(values) for values in rows])

    async def by_idempotency_key(self, key: str) -> Execution:
        """The execution that holds the key; it must exist."""
        statement = self.visible_to_system().where(Execution.idempotency_key == key)
        return (await self.session.scalars(statement)).one()


_claimed = (
    update(Execution)
    .where(Execution.id == bindparam("key"), Execution.status == ExecutionStatus.PENDING)
    .values(
        status=ExecutionStatus.RUNNING,
        lease_owner=bindparam("owner"),
        started_at=func.clock_timestamp(),
    )
    .returning(
        Execution.id,
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
    )
    .cte("claimed")
)
_CLAIM = (
    select(_claimed, User.email, User.is_active, Function.code, Function.output_schema)
    .join(User, User.id == _claimed.c.user_id)
    .outerjoin(Function, Function.id == _claimed.c.function_id)
)
_FINISH = (
    update(Execution)
    .where(
        Execution.id == bindparam("key"),
        Execution.lease_owner == bindparam("owner"),
        Execution.status == ExecutionStatus.RUNNING,
    )
    .values(
        status=bindparam("new_status"),
        output_data=bindparam("new_output", type_=Execution.output_data.type),
        error=bindparam("new_error"),
        traceback=bindparam("new_traceback"),
        stdout=bindparam("new_stdout"),
        stderr=bindparam("new_stderr"),
        duration_ms=bindparam("new_duration_ms"),
        completed_at=func.clock_timestamp(),
    )
    .returning(Execution.id)
)


async def claim(context: AppContext, execution_id: UUID, owner: UUID) -> Row[Any] | None:
    """Take a pending execution for the worker `owner`: all its run needs, in one round trip.

    None when it is not pending (any more): somebody else runs it or it ended.
    """
    return await _one(context, _CLAIM, {"key": execution_id, "owner": owner})


async def finish(
    context: AppContext, execution_id: UUID, owner: UUID, end: Mapping[str, Any]
) -> bool:
    """Write the terminal state. False when the row is no longer this worker's to write."""
    parameters = {f"new_{name}": value for name, value in end.items()}
    row = await _one(context, _FINISH, {"key": execution_id, "owner": owner, **parameters})
    return row is not None


async def _one(context: AppContext, statement: Any, parameters: dict[str, Any]) -> Row[Any] | None:
    # One statement is a transaction of its own: BEGIN and COMMIT would be two round trips more.
    async with context.autocommit.connect() as connection:
        return (await connection.execute(statement, parameters)).first()


_executions: Any = Execution.__table__
_due = (
    select(_executions.c.id)
    .where(
        _executions.c.status == ExecutionStatus.PENDING,
        _executions.c.queued_at
        < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("stale_seconds")),
    )
    .order_by(_executions.c.queued_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_TAKE_UNQUEUED: Any = (
    update(_executions)
    .where(_executions.c.id.in_(_due.scalar_subquery()))
    .values(queued_at=func.clock_timestamp())
    .returning(_executions.c.id)
)
_FAIL_ORPHANS: Any = (
    update(_executions)
    .where(
        _executions.c.status == ExecutionStatus.RUNNING, owner_is_dead(_executions.c.lease_owner)
    )
    .values(
        status=ExecutionStatus.FAILED,
        error=bindparam("told"),
        completed_at=func.clock_timestamp(),
    )
    .returning(_executions.c.id)
)


async def take_unqueued(session: AsyncSession, seconds: float, limit: int) -> Sequence[UUID]:
    """Pending executions whose job was pushed longer ago than `seconds`, oldest first."""
    found = await session.scalars(_TAKE_UNQUEUED, {"stale_seconds": seconds, "most": limit})
    return sorted(found.all())


async def fail_orphans(session: AsyncSession, error: str) -> Sequence[UUID]:
    """Fail every running execution whose worker is dead; their ids."""
    return (await session.scalars(_FAIL_ORPHANS, {"told": error})).all()
