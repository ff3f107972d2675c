"""`/states`: states by namespace, as the Python SDK's `client.state` calls it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.errors import ForbiddenError
from sinas.resources.stores.dependencies import InStatements, Wanted
from sinas.resources.stores.legacy_schemas import (
    LegacyVisibility,
    NamespacedStateCreate,
    NamespacedStateRead,
    NamespacedStateUpdate,
)
from sinas.resources.stores.legacy_service import STORE_ACTIONS, NamespacedStates
from sinas.resources.stores.state_schemas import StateDeleted
from sinas.web.deps import CREDENTIALS, Caller, Context, may_somewhere
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/states", tags=["states"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _permitted(action: str) -> Callable[..., Awaitable[Principal]]:
    async def check(principal: Caller) -> Principal:
        if not principal.can_anywhere("states", action) and not may_somewhere(
            principal, "stores", STORE_ACTIONS[action]
        ):
            raise ForbiddenError(
                f"Not authorized: this needs the permission 'sinas.states.{action}'."
            )
        return principal

    check.permission = f"states.{action}"  # type: ignore[attr-defined]
    return check


def _states(action: str) -> Callable[..., Awaitable[NamespacedStates]]:
    check = _permitted(action)

    async def build(
        unit: InStatements, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> NamespacedStates:
        return NamespacedStates(unit, principal, context.cipher)

    return build


Create = Annotated[NamespacedStates, Depends(_states("create"))]
Read = Annotated[NamespacedStates, Depends(_states("read"))]
Update = Annotated[NamespacedStates, Depends(_states("update"))]
Delete = Annotated[NamespacedStates, Depends(_states("delete"))]


@router.post("", status_code=201)
async def create_namespaced_state(
    data: NamespacedStateCreate, states: Create
) -> NamespacedStateRead:
    """Create a state of yours in a namespace: in the store `{namespace}/default`.

    The first write to a namespace makes the store, if you may create it.
    """
    return await states.create(data)


@router.get("")
async def list_namespaced_states(
    states: Read,
    wanted: Wanted,
    namespace: str | None = None,
    visibility: LegacyVisibility | None = None,
    assistant_id: str | None = None,
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> Sequence[NamespacedStateRead]:
    """List the states you may read, the most relevant first: yours, public ones, your roles'."""
    return await states.page(
        wanted,
        namespace=namespace,
        visibility=visibility,
        assistant_id=assistant_id,
        skip=skip,
        limit=limit,
    )


@router.get("/{state_id}")
async def get_namespaced_state(state_id: UUID, states: Read) -> NamespacedStateRead:
    """Get one state by its id."""
    return await states.get(state_id)


@router.put("/{state_id}")
async def update_namespaced_state(
    state_id: UUID, data: NamespacedStateUpdate, states: Update
) -> NamespacedStateRead:
    """Change a state; fields left out stay as they are."""
    return await states.update(state_id, data)


@router.delete("/{state_id}")
async def delete_namespaced_state(state_id: UUID, states: Delete) -> StateDeleted:
    """Delete a state."""
    return await states.delete(state_id)
