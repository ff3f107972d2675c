"""SQL of approved packages and of the environments built from them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import Dependency, Environment
from sinas.queue.job import Queue
from sinas.queue.lease import living_workers
from sinas.sandbox.environments import LockedEnvironment

# Names what is locked, for all processes; the value has no other meaning.
_CHANGE_LOCK = 7_202_611_223


class DependencyRepository:
    """Packages have no owners: whoever may see one sees all."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def page(self, *, skip: int, limit: int) -> Sequence[Dependency]:
        """By name."""
        statement = select(Dependency).order_by(Dependency.package_name)
        return (await self.session.scalars(statement.offset(skip).limit(limit))).all()

    async def all(self) -> Sequence[Dependency]:
        """Every one, by name."""
        return (
            await self.session.scalars(select(Dependency).order_by(Dependency.package_name))
        ).all()

    async def by_id(self, dependency_id: UUID) -> Dependency | None:
        """One."""
        return await self.session.get(Dependency, dependency_id)

    async def begin_change(self) -> None:
        """Let nobody else change packages until this transaction ends."""
        await self.session.execute(select(func.pg_advisory_xact_lock(_CHANGE_LOCK)))

    async def make_current(
        self, built: LockedEnvironment | None, requirements: Sequence[str]
    ) -> None:
        """From the commit on, calls get `built`; None for none."""
        await self.session.execute(
            update(Environment).where(Environment.is_current).values(is_current=False)
        )
        if built is None:
            return
        values = {"requirements": list(requirements), "is_current": True}
        await self.session.execute(
            insert(Environment)
            .values(id=built.id, python=built.python, lock=built.lock, **values)
            .on_conflict_do_update(index_elements=[Environment.id], set_=values)
        )

    async def environment(self, environment_id: str) -> Environment | None:
        """One environment, current or not."""
        return await self.session.get(Environment, environment_id)

    async def function_worker(self) -> UUID | None:
        """A function worker that lives."""
        found = await self.session.scalar(living_workers(Queue.FUNCTIONS).limit(1))
        return None if found is None else found.id
