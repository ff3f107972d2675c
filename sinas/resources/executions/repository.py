"""SQL of executions: accepting them, and what callers may see."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    ScalarSelect,
    bindparam,
    func,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.db.direct import Statement
from sinas.db.unit import Unit
from sinas.models import Chat, Execution, ExecutionKind
from sinas.tracing.spans import current_span

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
    "traceparent",
    "idempotency_key",
    "background",
    "kind",
    "depth",
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
    "kind": ExecutionKind.FUNCTION,
    "depth": 1,
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
_INSERT = Statement(
    _INSERT_MANY.on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(
        Execution.__table__.c.id
    )
)


async def insert_one(unit: Unit, values: Mapping[str, Any]) -> bool:
    """Insert one row; False when its idempotency key is taken.

    A chat or a parent execution that is gone by now is left out instead of failing. Columns
    that `values` does not name are null or have the database's default.
    """
    return await unit.one(_INSERT, _row(values)) is not None


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    return _NOTHING | {"traceparent": current_span().traceparent} | dict(values)


class ExecutionRepository(Repository[Execution]):
    """Executions, as one caller may see them: their own, or all with the grant for it."""

    model = Execution
    resource = "executions"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        if self.principal.can(f"sinas.executions.{action}:all"):
            return true()
        return Execution.user_id == self.principal.user_id

    async def insert_many(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows without idempotency keys, in one round trip; otherwise as `insert_one`."""
        if rows:
            await self.session.execute(_INSERT_MANY, [_row(values) for values in rows])

    async def dead_letters(self, *, skip: int, limit: int) -> Sequence[Execution]:
        """Background calls that failed for good, newest first, whoever's they are."""
        statement = (
            self.visible_to_system()
            .where(Execution.dead_lettered_at.is_not(None))
            .order_by(Execution.dead_lettered_at.desc(), Execution.id.desc())
        )
        return await self.page(statement, skip=skip, limit=limit)

    async def count_dead_letters(self) -> int:
        """How many there are."""
        statement = select(func.count()).where(Execution.dead_lettered_at.is_not(None))
        return await self.session.scalar(statement) or 0

    async def take_dead_letters(self, execution_id: UUID | None = None) -> Sequence[Execution]:
        """Take one out of the list, or all; those that were in it."""
        statement = (
            update(Execution)
            .where(Execution.dead_lettered_at.is_not(None))
            .values(dead_lettered_at=null())
            .returning(Execution)
            .execution_options(synchronize_session=False)
        )
        if execution_id is not None:
            statement = statement.where(Execution.id == execution_id)
        return (await self.session.scalars(statement)).all()

    async def by_idempotency_key(self, key: str) -> Execution:
        """The execution that holds the key; it must exist."""
        statement = self.visible_to_system().where(Execution.idempotency_key == key)
        return (await self.session.scalars(statement)).one()
