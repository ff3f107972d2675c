"""Management operations of stores."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Store
from sinas.resources.stores.dependencies import stores_for
from sinas.resources.stores.schemas import StoreCreate, StoreRead, StoreUpdate
from sinas.resources.stores.service import StoreService
from sinas.web.deps import CREDENTIALS
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/stores", tags=["stores"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


Create = Annotated[StoreService, Depends(stores_for("create"))]
Read = Annotated[StoreService, Depends(stores_for("read"))]
Update = Annotated[StoreService, Depends(stores_for("update"))]
Delete = Annotated[StoreService, Depends(stores_for("delete"))]


@router.post("", status_code=201, response_model=StoreRead)
async def create_store(data: StoreCreate, stores: Create) -> Store:
    """Create a store, owned by the caller.

    Whoever holds `write_state` and `read_state` for its name keeps states in it.
    """
    return await stores.create(data)


@router.get("", response_model=list[StoreRead])
async def list_stores(
    stores: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Store]:
    """List the stores the caller may read, newest first."""
    return await stores.listed(namespace, skip=skip, limit=limit)


@router.get("/{namespace}/{name}", response_model=StoreRead)
async def get_store(namespace: str, name: str, stores: Read) -> Store:
    """Get one store."""
    return await stores.get(namespace, name)


@router.put("/{namespace}/{name}", response_model=StoreRead)
async def update_store(namespace: str, name: str, data: StoreUpdate, stores: Update) -> Store:
    """Change a store; fields left out stay as they are.

    `encrypted: true` encrypts the values that are there, and writes wait for it; `false` leaves
    them encrypted, each until it is changed with `encrypted: false`. `schema` and `strict` count
    for what is written from now on.
    """
    return await stores.update(namespace, name, data)


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_store(namespace: str, name: str, stores: Delete) -> None:
    """Delete a store with everybody's states in it."""
    await stores.delete(namespace, name)
