"""Management operations of packages."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Dependency
from sinas.resources.dependencies.changes import DependencyChanges
from sinas.resources.dependencies.schemas import DependencyInstall, DependencyRead
from sinas.resources.dependencies.service import DependencyService
from sinas.web.deps import CREDENTIALS, Context, allowed, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/dependencies",
    tags=["dependencies"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)


def _changes(action: str) -> Callable[..., Awaitable[DependencyChanges]]:
    check = permitted("dependencies", action)

    async def build(
        context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> DependencyChanges:
        principal.require(f"sinas.dependencies.{action}:all")
        return DependencyChanges(context, principal)

    return build


Install = Annotated[DependencyChanges, Depends(_changes("install"))]
Read = Annotated[DependencyService, Depends(allowed(DependencyService, "dependencies", "read"))]
Delete = Annotated[DependencyChanges, Depends(_changes("delete"))]


@router.post("", response_model=DependencyRead)
async def approve_dependency(data: DependencyInstall, changes: Install) -> Dependency:
    """Approve a Python package: functions can import it from the next call on.

    All approved packages are resolved together and installed before this answers. If that fails,
    `detail` has pip's own words and nothing has changed.
    """
    return await changes.approve(data)


@router.get("", response_model=list[DependencyRead])
async def list_dependencies(
    dependencies: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Dependency]:
    """List approved packages by name."""
    return await dependencies.page(skip=skip, limit=limit)


@router.delete("/{dependency_id}", status_code=204)
async def remove_dependency(dependency_id: UUID, changes: Delete) -> None:
    """Remove a package. Calls that run keep it to their end; later ones cannot import it."""
    await changes.withdraw(dependency_id)
