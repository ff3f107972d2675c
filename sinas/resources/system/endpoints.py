"""Management operations of the system."""

from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.resources.system.schemas import FlushedJobs, HealthRead, Restarted
from sinas.resources.system.service import SystemService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted_everywhere
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/system", tags=["system"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

MayRead = Annotated[Principal, Depends(permitted_everywhere("system", "read"))]
MayUpdate = Annotated[Principal, Depends(permitted_everywhere("system", "update"))]


@router.get("/health", response_model_exclude_none=True)
async def system_health(
    principal: MayRead, context: Context, include_stats: bool = False
) -> HealthRead:
    """Say how the installation is: warnings, processes and containers, host, sandbox.

    `include_stats` adds CPU and memory of each service, which takes about a second. `/health`
    is the short form for load balancers, without credentials.
    """
    return await SystemService(context, principal).health(include_stats=include_stats)


@router.post("/containers/{container_name}/restart")
async def restart_container(
    container_name: str, principal: MayUpdate, context: Context
) -> Restarted:
    """End one of the platform's own containers, with the calls in it, and start another one.

    Calls of idempotent functions run again; others fail and say why.
    """
    return await SystemService(context, principal).restart(container_name)


@router.post("/flush-stuck-jobs")
async def flush_stuck_jobs(principal: MayUpdate, context: Context, unit: InUnit) -> FlushedJobs:
    """Cancel function calls that have run for more than two hours and past their time limit."""
    return await SystemService(context, principal).flush_stuck_jobs(unit)
