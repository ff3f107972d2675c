"""Changing what is installed: a worker builds it first, then one transaction records it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import ConflictError, UnavailableError
from sinas.models import Dependency
from sinas.queue.commands import call_worker
from sinas.resources.dependencies.commands import build
from sinas.resources.dependencies.repository import DependencyRepository
from sinas.resources.dependencies.schemas import DependencyInstall
from sinas.resources.dependencies.service import DependencyService
from sinas.sandbox.environments import LockedEnvironment

_ATTEMPTS = 3
# pip runs twice, to resolve and to install; the rest is for asking.
_SLACK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DependencyChanges:
    """Changes by one caller. Nothing is recorded of one that fails, and calls go on meanwhile."""

    context: AppContext
    principal: Principal

    async def approve(self, data: DependencyInstall) -> Dependency:
        """Approve a package, and make it importable from the next call on.

        Raises:
            ForbiddenError: Packages cannot be approved on this installation.
            BadRequestError: The package is not on the allow list.
            DuplicateError: It is approved already.
            InvalidInputError: pip cannot install it with the others; in pip's words.
            UpstreamError: The package index was not reached.
            UnavailableError: No function worker runs.
        """
        settings = self.context.settings.dependency
        for _ in range(_ATTEMPTS):
            async with self.context.statement_unit() as unit:
                wanted = await DependencyService(unit, self.principal).with_package(data, settings)
            built = await self._build(wanted)
            async with self.context.unit() as unit:
                service = DependencyService(unit, self.principal)
                await service.rows.begin_change()
                # Approved meanwhile by somebody else: what was built would lose theirs.
                if await service.with_package(data, settings) == wanted:
                    return await service.record(data, built, wanted)
        raise _busy()

    async def withdraw(self, dependency_id: UUID) -> None:
        """Remove a package. Calls that run keep it to their end.

        Raises:
            NotFoundError: It is not approved.
            InvalidInputError: pip cannot install the rest without it; in pip's words.
            UpstreamError: The package index was not reached.
            UnavailableError: No function worker runs.
        """
        for _ in range(_ATTEMPTS):
            async with self.context.statement_unit() as unit:
                service = DependencyService(unit, self.principal)
                wanted = await service.without_package(dependency_id)
            built = await self._build(wanted) if wanted else None
            async with self.context.unit() as unit:
                service = DependencyService(unit, self.principal)
                await service.rows.begin_change()
                if await service.without_package(dependency_id) == wanted:
                    await service.remove(dependency_id, built, wanted)
                    return
        raise _busy()

    async def _build(self, requirements: Sequence[str]) -> LockedEnvironment:
        async with self.context.statement_sessions() as session:
            worker_id = await DependencyRepository(session).function_worker()
        if worker_id is None:
            raise UnavailableError("No function worker runs, and one has to build the packages.")
        answer = await call_worker(
            self.context.redis,
            self.context.signals,
            worker_id,
            build,
            {"requirements": list(requirements)},
            seconds=2 * self.context.settings.dependency.build_timeout + _SLACK_SECONDS,
        )
        assert isinstance(answer, dict)
        return LockedEnvironment(**{name: str(value) for name, value in answer.items()})


def _busy() -> ConflictError:
    return ConflictError("Packages are being changed by others at the same time; try again.")
