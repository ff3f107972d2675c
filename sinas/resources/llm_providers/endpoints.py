"""Management operations of LLM providers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import LlmProvider
from sinas.resources.llm_providers.schemas import (
    LlmProviderCreate,
    LlmProviderRead,
    LlmProviderUpdate,
)
from sinas.resources.llm_providers.service import LlmProviderService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/llm-providers",
    tags=["llm-providers"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)


def _for(action: str) -> Callable[..., Awaitable[LlmProviderService]]:
    check = permitted("llm_providers", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> LlmProviderService:
        return LlmProviderService(unit, principal, context.cipher)

    return build


Create = Annotated[LlmProviderService, Depends(_for("create"))]
Read = Annotated[LlmProviderService, Depends(_for("read"))]
Update = Annotated[LlmProviderService, Depends(_for("update"))]
Delete = Annotated[LlmProviderService, Depends(_for("delete"))]


@router.post("", status_code=201, response_model=LlmProviderRead)
async def create_llm_provider(data: LlmProviderCreate, providers: Create) -> LlmProvider:
    """Add a provider. Its key is stored encrypted and never returned."""
    return await providers.create(data)


@router.get("", response_model=list[LlmProviderRead])
async def list_llm_providers(
    providers: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[LlmProvider]:
    """List providers by name."""
    return await providers.page(skip=skip, limit=limit)


@router.get("/{name}", response_model=LlmProviderRead)
async def get_llm_provider(name: str, providers: Read) -> LlmProvider:
    """Get one provider."""
    return await providers.by_name(name)


@router.patch("/{provider_id}", response_model=LlmProviderRead)
async def update_llm_provider(
    provider_id: UUID, data: LlmProviderUpdate, providers: Update
) -> LlmProvider:
    """Change a provider; fields left out stay as they are."""
    return await providers.update(provider_id, data)


@router.delete("/{provider_id}", status_code=204)
async def delete_llm_provider(provider_id: UUID, providers: Delete) -> None:
    """Delete a provider and its key. Agents that name it fail with a clear error until changed."""
    await providers.delete(provider_id)
