"""SQL of functions and their versions."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import defer

from sinas.crud.references import matching
from sinas.crud.repository import Repository
from sinas.db.direct import Statement
from sinas.db.unit import Unit
from sinas.models import Function, FunctionVersion

# Made once: every call of a function asks it. Sees all rows, as `visible_to_system`.
_CALLABLE = Statement(
    select(*(column for column in Function.__table__.columns if column.name != "code")).where(
        Function.namespace == bindparam("in_namespace"),
        Function.name == bindparam("called"),
        Function.is_active,
    )
)


async def callable_by_name(unit: Unit, namespace: str, name: str) -> Function | None:
    """An active function without its code, whoever owns it: executing is a right of its own.

    It belongs to no session: changing it changes nothing.
    """
    row = await unit.one(_CALLABLE, {"in_namespace": namespace, "called": name})
    return None if row is None else Function(**row)


class FunctionRepository(Repository[Function]):
    """Functions, as one caller may see them."""

    model = Function
    resource = "functions"

    async def active_page(self, *, skip: int, limit: int) -> Sequence[Function]:
        """Active functions the caller may read, by name."""
        statement = (
            self.visible().where(Function.is_active).order_by(Function.namespace, Function.name)
        )
        return await self.page(statement, skip=skip, limit=limit)

    async def versions(self, function_id: UUID) -> Sequence[FunctionVersion]:
        """Versions of a function the caller may read, newest first."""
        statement = (
            select(FunctionVersion)
            .where(FunctionVersion.function_id == function_id)
            .order_by(FunctionVersion.version.desc())
        )
        return (await self.session.scalars(statement)).all()

    async def next_version(self, function_id: UUID) -> int:
        """The number of the version that comes next; other writers wait until this one commits."""
        await self.session.execute(
            select(Function.id).where(Function.id == function_id).with_for_update()
        )
        newest = select(func.max(FunctionVersion.version)).where(
            FunctionVersion.function_id == function_id
        )
        return (await self.session.scalar(newest) or 0) + 1

    async def active_matching(self, references: Sequence[str]) -> Sequence[Function]:
        """Active functions that `ns/name`, `ns/*` or `*/*` references name, without their code."""
        if not references:
            return ()
        statement = (
            self.visible_to_system()
            .where(Function.is_active, matching(Function, references))
            .order_by(Function.namespace, Function.name)
            .options(defer(Function.code, raiseload=True))
        )
        return (await self.session.scalars(statement)).all()
