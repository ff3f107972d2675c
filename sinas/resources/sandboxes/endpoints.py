"""Management operations of sandboxes."""

from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.resources.sandboxes.schemas import (
    ContainersReloaded,
    ContainersScale,
    ContainersScaled,
    ContainerStats,
    Reloaded,
    WorkerCount,
    WorkerRead,
    WorkersScale,
    WorkersScaled,
)
from sinas.resources.sandboxes.service import SandboxService
from sinas.web.deps import CREDENTIALS, Context, permitted_everywhere
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

MayRead = Annotated[Principal, Depends(permitted_everywhere("system", "read"))]
MayUpdate = Annotated[Principal, Depends(permitted_everywhere("system", "update"))]


async def _service(context: Context) -> SandboxService:
    return SandboxService(context)


Sandboxes = Annotated[SandboxService, Depends(_service)]


@router.get("/workers", tags=["workers"])
async def list_workers(_: MayRead, sandboxes: Sandboxes) -> list[WorkerRead]:
    """List the containers of the shared pool, of all function workers."""
    return await sandboxes.workers()


@router.get("/workers/count", tags=["workers"])
async def count_workers(_: MayRead, sandboxes: Sandboxes) -> WorkerCount:
    """Count the containers of the shared pool."""
    return WorkerCount(count=len(await sandboxes.workers()))


@router.post("/workers/scale", tags=["workers"])
async def scale_workers(_: MayUpdate, data: WorkersScale, sandboxes: Sandboxes) -> WorkersScaled:
    """Set how many containers take shared calls: 0 to 10 in all, shared out evenly.

    Running calls end where they are. Lasts until a function worker restarts; the setting
    DEFAULT_WORKER_COUNT is what one starts with.
    """
    return await sandboxes.scale_workers(data.target_count)


@router.post("/workers/reload", tags=["workers"])
async def reload_workers(_: MayUpdate, sandboxes: Sandboxes) -> Reloaded:
    """Replace the containers of both pools. Running calls end where they are."""
    return await sandboxes.reload_workers()


@router.get("/containers/stats", tags=["containers"])
async def container_stats(_: MayRead, sandboxes: Sandboxes) -> ContainerStats:
    """Count and list the sandboxes of all function workers."""
    return await sandboxes.containers()


@router.post("/containers/scale", tags=["containers"])
async def scale_containers(
    _: MayUpdate, data: ContainersScale, sandboxes: Sandboxes
) -> ContainersScaled:
    """Set how many sandboxes are kept ready in all, shared out evenly.

    Busy ones stay until their call ends, and more are made while calls need them. Lasts until a
    function worker restarts; the setting SANDBOX_MIN_SIZE is what one starts with.
    """
    return await sandboxes.scale_containers(data.target)


@router.post("/containers/reload", tags=["containers"])
async def reload_containers(_: MayUpdate, sandboxes: Sandboxes) -> ContainersReloaded:
    """Replace the sandboxes: idle ones now, busy ones after their call."""
    return await sandboxes.reload_containers()
