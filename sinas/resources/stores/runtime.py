"""Runtime operations of stores: which there are, and the states in them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Store
from sinas.resources.stores.dependencies import InStatements, Wanted, stores_for
from sinas.resources.stores.schemas import StoreRead
from sinas.resources.stores.service import StoreService
from sinas.resources.stores.state_schemas import StateCreate, StateDeleted, StateRead, StateUpdate
from sinas.resources.stores.state_service import StateService
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, Context, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["stores"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)


def _states(action: str) -> Callable[..., Awaitable[StateService]]:
    check = permitted("stores", action)

    async def build(
        unit: InStatements, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> StateService:
        return StateService(unit, principal, context.cipher)

    return build


Discovery = Annotated[StoreService, Depends(stores_for("read"))]
Read = Annotated[StateService, Depends(_states("read_state"))]
Write = Annotated[StateService, Depends(_states("write_state"))]
Owner = Annotated[
    str | None,
    Query(
        description="For those who hold `read_state:all`: `me` (the default), `all`, or a "
        "user's id. For others it has no effect: they see their own states and shared ones."
    ),
]


@router.get("/stores", response_model=list[StoreRead], tags=["discovery"])
@router.get("/discovery/stores", response_model=list[StoreRead], tags=["discovery"])
async def discover_stores(
    stores: Discovery, _: Application, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Store]:
    """List the stores you may read, by name."""
    return await stores.discover(skip=skip, limit=limit)


@router.post("/stores/{namespace}/{name}/states")
async def create_state(namespace: str, name: str, data: StateCreate, states: Write) -> StateRead:
    """Create a state of yours. Each user has one of each key; PUT changes it."""
    return await states.create(namespace, name, data)


@router.get("/stores/{namespace}/{name}/states")
async def list_states(
    namespace: str,
    name: str,
    states: Read,
    wanted: Wanted,
    owner: Owner = None,
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> Sequence[StateRead]:
    """List your states and shared ones, the most relevant first, then by key."""
    return await states.page(namespace, name, wanted, owner, skip=skip, limit=limit)


@router.get("/stores/{namespace}/{name}/states/{key:path}")
async def get_state(namespace: str, name: str, key: str, states: Read) -> StateRead:
    """Get your state of a key; where you have none, the shared one that was written last."""
    return await states.get(namespace, name, key)


@router.put("/stores/{namespace}/{name}/states/{key:path}")
async def update_state(
    namespace: str, name: str, key: str, data: StateUpdate, states: Write
) -> StateRead:
    """Change your state of a key; fields left out stay as they are."""
    return await states.update(namespace, name, key, data)


@router.delete("/stores/{namespace}/{name}/states/{key:path}")
async def delete_state(namespace: str, name: str, key: str, states: Write) -> StateDeleted:
    """Delete your state of a key."""
    return await states.delete(namespace, name, key)
