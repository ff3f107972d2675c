"""Management operations of collections."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Collection
from sinas.resources.collections.schemas import CollectionCreate, CollectionRead, CollectionUpdate
from sinas.resources.collections.service import CollectionService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/collections",
    tags=["collections"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)

Create = Annotated[CollectionService, Depends(allowed(CollectionService, "collections", "create"))]
Read = Annotated[CollectionService, Depends(allowed(CollectionService, "collections", "read"))]
Update = Annotated[CollectionService, Depends(allowed(CollectionService, "collections", "update"))]
Delete = Annotated[CollectionService, Depends(allowed(CollectionService, "collections", "delete"))]


@router.post("", status_code=201, response_model=CollectionRead)
async def create_collection(data: CollectionCreate, collections: Create) -> Collection:
    """Create a collection, owned by the caller.

    Whoever holds `upload`, `download`, `list` and `delete_files` for its name works with files in
    it.
    """
    return await collections.create(data)


@router.get("", response_model=list[CollectionRead])
async def list_collections(
    collections: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Collection]:
    """List the collections the caller may read, newest first."""
    return await collections.listed(namespace, skip=skip, limit=limit)


@router.get("/{namespace}/{name}", response_model=CollectionRead)
async def get_collection(namespace: str, name: str, collections: Read) -> Collection:
    """Get one collection."""
    return await collections.get(namespace, name)


@router.put("/{namespace}/{name}", response_model=CollectionRead)
async def update_collection(
    namespace: str, name: str, data: CollectionUpdate, collections: Update
) -> Collection:
    """Change a collection; fields left out stay as they are. It keeps its name."""
    return await collections.update(namespace, name, data)


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_collection(namespace: str, name: str, collections: Delete) -> None:
    """Delete a collection with everybody's files in it."""
    await collections.delete(namespace, name)
