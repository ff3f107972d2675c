"""Rules of packages: which may be approved, what is installed, and that calls find it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from packaging.utils import canonicalize_name
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import WorkerContext
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    DuplicateError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from sinas.models import Dependency
from sinas.resources.dependencies.repository import DependencyRepository
from sinas.resources.dependencies.schemas import DependencyInstall
from sinas.sandbox.environments import LockedEnvironment
from sinas.settings import DependencySettings


class DependencyService:
    """For callers whose permission was checked: packages have no owners and no paths."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.principal = principal
        self.rows = DependencyRepository(unit.session)
        self.session = unit.session

    async def page(self, *, skip: int, limit: int) -> Sequence[Dependency]:
        """Approved packages by name."""
        return await self.rows.page(skip=skip, limit=limit)

    async def with_package(
        self, data: DependencyInstall, settings: DependencySettings
    ) -> tuple[str, ...]:
        """The requirements once this package is approved too.

        Raises:
            ForbiddenError: Packages cannot be approved on this installation.
            BadRequestError: The package is not on the allow list.
            DuplicateError: It is approved already.
        """
        if not settings.allow_installation:
            raise ForbiddenError(
                "Packages cannot be approved on this installation (ALLOW_PACKAGE_INSTALLATION)."
            )
        name = data.package_name
        listed = {canonicalize_name(one) for one in settings.allowed_packages.split(",") if one}
        if listed and name not in {one.strip() for one in listed}:
            message = f"Package '{name}' is not on this installation's list (ALLOWED_PACKAGES)."
            raise BadRequestError(message, [FieldError("package_name", message)])
        approved = await self.rows.all()
        if any(one.package_name == name for one in approved):
            raise DuplicateError(
                f"Package '{name}' is already approved; remove it first to change its version."
            )
        return tuple(sorted([*map(_requirement, approved), _join(name, data.version)]))

    async def without_package(self, dependency_id: UUID) -> tuple[str, ...]:
        """The requirements once this one is removed.

        Raises:
            NotFoundError: It is not approved.
        """
        await self._get(dependency_id)
        rest = [one for one in await self.rows.all() if one.id != dependency_id]
        return tuple(sorted(map(_requirement, rest)))

    async def record(
        self, data: DependencyInstall, built: LockedEnvironment, requirements: Sequence[str]
    ) -> Dependency:
        """Approve a package together with the environment that has it."""
        row = Dependency(
            package_name=data.package_name,
            version=data.version,
            installed_by=self.principal.user_id,
        )
        self.session.add(row)
        await self.rows.make_current(built, requirements)
        # Its id and time are the database's.
        await self.session.flush()
        return row

    async def remove(
        self, dependency_id: UUID, built: LockedEnvironment | None, requirements: Sequence[str]
    ) -> None:
        """Withdraw a package together with the environment that still has it."""
        await self.session.delete(await self._get(dependency_id))
        await self.rows.make_current(built, requirements)

    async def _get(self, dependency_id: UUID) -> Dependency:
        row = await self.rows.by_id(dependency_id)
        if row is None:
            raise NotFoundError(f"Dependency '{dependency_id}' not found")
        return row


async def approved_packages(session: AsyncSession) -> Sequence[str]:
    """What user code may import besides the standard library, as `name` or `name==version`."""
    return [_requirement(one) for one in await DependencyRepository(session).all()]


@asynccontextmanager
async def packages_held(worker: WorkerContext, environment_id: str | None) -> AsyncIterator[None]:
    """Have an environment on this worker's disk for as long as the block runs.

    Raises:
        UnavailableError: It cannot be installed here.
    """
    if environment_id is None or worker.environments is None:
        yield
        return

    async def load() -> LockedEnvironment:
        async with worker.app.statement_sessions() as session:
            row = await DependencyRepository(session).environment(environment_id)
        if row is None:
            raise UnavailableError(f"environment {environment_id} is not known any more.")
        return LockedEnvironment(id=row.id, python=row.python, lock=row.lock)

    async with worker.environments.held(environment_id, load):
        yield


def _requirement(row: Dependency) -> str:
    return _join(row.package_name, row.version)


def _join(name: str, version: str | None) -> str:
    return name if version is None else f"{name}=={version}"
