"""Management routes of API keys, under `/api/v1/api-keys`."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, status

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.resources.api_keys.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from sinas.resources.api_keys.service import ApiKeyService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/api-keys", tags=["api-keys"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[ApiKeyService, Depends(allowed(ApiKeyService, "api_keys", "create"))]
Read = Annotated[ApiKeyService, Depends(allowed(ApiKeyService, "api_keys", "read"))]
Delete = Annotated[ApiKeyService, Depends(allowed(ApiKeyService, "api_keys", "delete"))]


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_api_key(body: ApiKeyCreate, keys: Create) -> ApiKeyCreated:
    """Create an API key. The answer is the only time the key is shown."""
    return await keys.create(body)


@router.get("")
async def list_api_keys(
    keys: Read,
    skip: Annotated[SkipQuery, Query()] = 0,
    limit: Annotated[LimitQuery, Query()] = 1000,
) -> Sequence[ApiKeyRead]:
    """List API keys, newest first: the caller's, or everybody's for those who may read all."""
    return await keys.page(skip=skip, limit=limit)


@router.get("/{key_id}")
async def get_api_key(key_id: UUID, keys: Read) -> ApiKeyRead:
    """Get one API key."""
    return await keys.get(key_id)


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_api_key(key_id: UUID, keys: Delete) -> None:
    """Revoke an API key; it stops working at once."""
    await keys.revoke(key_id)
