"""Management operations of schedules."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Schedule
from sinas.resources.schedules.schemas import ScheduleCreate, ScheduleRead, ScheduleUpdate
from sinas.resources.schedules.service import ScheduleService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/schedules", tags=["schedules"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _for(action: str) -> Callable[..., Awaitable[ScheduleService]]:
    check = permitted("schedules", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> ScheduleService:
        return ScheduleService(unit, principal, context)

    return build


Create = Annotated[ScheduleService, Depends(_for("create"))]
Read = Annotated[ScheduleService, Depends(_for("read"))]
Update = Annotated[ScheduleService, Depends(_for("update"))]
Delete = Annotated[ScheduleService, Depends(_for("delete"))]


@router.post("", status_code=201, response_model=ScheduleRead)
async def create_schedule(data: ScheduleCreate, schedules: Create) -> Schedule:
    """Run a function, or start a chat with an agent, at the times of a cron expression.

    It runs as the caller, with the rights they hold at the time, and an API key's schedule with
    no more than the key may do.
    """
    return await schedules.create(data)


@router.get("", response_model=list[ScheduleRead])
async def list_schedules(
    schedules: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[Schedule]:
    """List schedules by name: the caller's, or everybody's for those who may read all."""
    return await schedules.page(skip=skip, limit=limit)


@router.get("/{name}", response_model=ScheduleRead)
async def get_schedule(name: str, schedules: Read) -> Schedule:
    """Get one schedule: the caller's own of this name, else the only one they may read."""
    return await schedules.get(name)


@router.patch("/{name}", response_model=ScheduleRead)
async def update_schedule(name: str, data: ScheduleUpdate, schedules: Update) -> Schedule:
    """Change a schedule; fields left out stay. Its next run follows a new time at once."""
    return await schedules.update(name, data)


@router.delete("/{name}", status_code=204)
async def delete_schedule(name: str, schedules: Delete) -> None:
    """Delete a schedule; what it has started goes on."""
    await schedules.delete(name)


@router.post("/{name}/run", status_code=202, response_model=ScheduleRead)
async def run_schedule(name: str, schedules: Update) -> Schedule:
    """Start a schedule now, active or not; when it is due next stays as it is."""
    return await schedules.run(name)
