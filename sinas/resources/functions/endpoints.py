"""Management routes of functions."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Function, FunctionVersion
from sinas.resources.functions.schemas import (
    FunctionCreate,
    FunctionRead,
    FunctionUpdate,
    FunctionVersionRead,
)
from sinas.resources.functions.service import FunctionService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.icons import Icons
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/functions", tags=["functions"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _functions(action: str) -> Callable[..., Awaitable[FunctionService]]:
    async def build(
        unit: InUnit,
        principal: Annotated[Principal, Depends(permitted("functions", action))],
        context: Context,
    ) -> FunctionService:
        return FunctionService(unit, principal, context.settings.function)

    build.permission = f"functions.{action}"  # type: ignore[attr-defined]
    return build


Create = Annotated[FunctionService, Depends(_functions("create"))]
Read = Annotated[FunctionService, Depends(_functions("read"))]
Update = Annotated[FunctionService, Depends(_functions("update"))]
Delete = Annotated[FunctionService, Depends(_functions("delete"))]


@router.post("", response_model=FunctionRead, status_code=201)
async def create_function(body: FunctionCreate, functions: Create, icons: Icons) -> Function:
    """Create a function; its code becomes version 1."""
    return await icons.on(await functions.create(body))


@router.get("", response_model=list[FunctionRead])
async def list_functions(
    functions: Read, icons: Icons, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Function]:
    """List the functions you may read, newest first, inactive ones included."""
    return await icons.on_all(await functions.page(skip=skip, limit=limit))


@router.get("/{namespace}/{name}", response_model=FunctionRead)
async def get_function(namespace: str, name: str, functions: Read, icons: Icons) -> Function:
    """Get one function."""
    return await icons.on(await functions.get(namespace, name))


@router.put("/{namespace}/{name}", response_model=FunctionRead)
async def update_function(
    namespace: str, name: str, body: FunctionUpdate, functions: Update, icons: Icons
) -> Function:
    """Change the given fields. A body with `code` makes a new version."""
    return await icons.on(await functions.update(namespace, name, body))


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_function(namespace: str, name: str, functions: Delete) -> None:
    """Delete a function and its versions. Its executions stay."""
    await functions.delete(namespace, name)


@router.get("/{namespace}/{name}/versions", response_model=list[FunctionVersionRead])
async def list_versions(namespace: str, name: str, functions: Read) -> Sequence[FunctionVersion]:
    """List the versions of a function, newest first."""
    return await functions.versions(namespace, name)
