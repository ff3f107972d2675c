"""Management operations of secrets."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Secret, SecretVisibility
from sinas.resources.secrets.schemas import SecretCreate, SecretRead, SecretUpdate
from sinas.resources.secrets.service import SecretService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/secrets", tags=["secrets"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _for(action: str) -> Callable[..., Awaitable[SecretService]]:
    check = permitted("secrets", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> SecretService:
        return SecretService(unit, principal, context.cipher)

    return build


Create = Annotated[SecretService, Depends(_for("create"))]
Read = Annotated[SecretService, Depends(_for("read"))]
Update = Annotated[SecretService, Depends(_for("update"))]
Delete = Annotated[SecretService, Depends(_for("delete"))]


@router.post("", status_code=201, response_model=SecretRead)
async def put_secret(data: SecretCreate, secrets: Create) -> Secret:
    """Store a secret, over the one that has its name and visibility.

    Its value is stored encrypted and never returned. Shared secrets are for admins to store:
    everybody else gives `visibility: private`.
    """
    return await secrets.put(data)


@router.get("", response_model=list[SecretRead])
async def list_secrets(
    secrets: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Secret]:
    """List shared secrets and the caller's own by name; everybody's for those who may read all."""
    return await secrets.page(skip=skip, limit=limit)


@router.get("/{name}", response_model=SecretRead)
async def get_secret(name: str, secrets: Read) -> Secret:
    """Get the caller's private secret of this name, else the shared one."""
    return await secrets.get(name)


@router.put("/{name}", response_model=SecretRead)
async def update_secret(name: str, data: SecretUpdate, secrets: Update) -> Secret:
    """Change the caller's private secret of this name, else the shared one."""
    return await secrets.update(name, data)


@router.delete("/{name}", status_code=204)
async def delete_secret(
    name: str, secrets: Delete, visibility: SecretVisibility = SecretVisibility.SHARED
) -> None:
    """Delete the shared secret of this name, or the caller's private one."""
    await secrets.delete(name, visibility)
