"""Management operations of database triggers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import DatabaseTrigger
from sinas.resources.database_triggers.schemas import (
    BookmarkReset,
    DatabaseTriggerCreate,
    DatabaseTriggerRead,
    DatabaseTriggerUpdate,
)
from sinas.resources.database_triggers.service import DatabaseTriggerService
from sinas.web.deps import CREDENTIALS, Context, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/database-triggers",
    tags=["database-triggers"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)


def _for(action: str) -> Callable[..., Awaitable[DatabaseTriggerService]]:
    check = permitted("database_triggers", action)

    async def build(
        context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> DatabaseTriggerService:
        return DatabaseTriggerService(context, principal)

    return build


Create = Annotated[DatabaseTriggerService, Depends(_for("create"))]
Read = Annotated[DatabaseTriggerService, Depends(_for("read"))]
Update = Annotated[DatabaseTriggerService, Depends(_for("update"))]
Delete = Annotated[DatabaseTriggerService, Depends(_for("delete"))]


@router.post("", status_code=201, response_model=DatabaseTriggerRead)
async def create_database_trigger(data: DatabaseTriggerCreate, triggers: Create) -> DatabaseTrigger:
    """Run a function with the rows that come into a table of a PostgreSQL database, or change.

    The connection, the table and the column are tried at once, and with the mode `replication` a
    publication and a slot are made. The function runs as the caller, with the rights they hold at
    the time. Rows that are in the table already are not reported.
    """
    return await triggers.create(data)


@router.get("", response_model=list[DatabaseTriggerRead])
async def list_database_triggers(
    triggers: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[DatabaseTrigger]:
    """List triggers by name: the caller's, or everybody's for those who may read all."""
    return await triggers.page(skip=skip, limit=limit)


@router.get("/{name}", response_model=DatabaseTriggerRead)
async def get_database_trigger(name: str, triggers: Read) -> DatabaseTrigger:
    """Get one trigger: the caller's own of this name, else the only one they may read."""
    return await triggers.get(name)


@router.patch("/{name}", response_model=DatabaseTriggerRead)
async def update_database_trigger(
    name: str, data: DatabaseTriggerUpdate, triggers: Update
) -> DatabaseTrigger:
    """Change a trigger; fields left out stay. What comes while it is inactive is kept for later."""
    return await triggers.update(name, data)


@router.delete("/{name}", status_code=204)
async def delete_database_trigger(name: str, triggers: Delete) -> None:
    """Delete a trigger; what it has started goes on. Its slot, if any, is dropped soon after."""
    await triggers.delete(name)


@router.post("/{name}/reset", response_model=DatabaseTriggerRead)
async def reset_database_trigger(
    name: str, data: BookmarkReset, triggers: Update
) -> DatabaseTrigger:
    """Begin anew: from now on, or with every row of the table again.

    With the mode `replication` slot and publication are made anew, and only from now on.
    """
    return await triggers.reset(name, data.position)
