"""GET /health: what works right now, measured, not assumed."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from sinas import __version__
from sinas.context import AppContext
from sinas.models import Worker
from sinas.queue.job import Queue
from sinas.queue.lease import living_workers
from sinas.web.deps import Context

router = APIRouter(tags=["health"])

Part = Literal["healthy", "unhealthy"]


class SandboxHealth(BaseModel):
    """Where user code runs and what separates it from the host."""

    status: Part
    backend: str | None
    boundary: str | None
    warnings: list[str]


class Health(BaseModel):
    """State of the platform's parts; `status` is healthy when every part is."""

    status: Part
    version: str
    database: Part
    redis: Part
    function_workers: int
    agent_workers: int
    sandbox: SandboxHealth


@router.get("/health", responses={503: {"model": Health, "description": "A part is down"}})
async def health(context: Context, response: Response) -> Health:
    """Check database, Redis, queue workers and sandbox. Answers 503 when one does not work.

    Needs no credentials and tells nothing about the installation's data.
    """
    report = await measure(context)
    if report.status != "healthy":
        response.status_code = 503
    return report


async def measure(context: AppContext) -> Health:
    """Ask every part, at most two seconds each."""
    async with asyncio.TaskGroup() as group:
        database = group.create_task(_database(context))
        redis = group.create_task(_redis(context))
    workers = database.result()
    functions = [w for w in workers or () if w.queue == Queue.FUNCTIONS]
    agents = [w for w in workers or () if w.queue == Queue.AGENTS]
    sandbox = _sandbox(functions)
    parts = (workers is not None, redis.result(), bool(functions), bool(agents))
    return Health(
        status=_part(all(parts) and sandbox.status == "healthy"),
        version=__version__,
        database=_part(workers is not None),
        redis=_part(redis.result()),
        function_workers=len(functions),
        agent_workers=len(agents),
        sandbox=sandbox,
    )


def _part(works: bool) -> Part:
    return "healthy" if works else "unhealthy"


async def _database(context: AppContext) -> list[Worker] | None:
    try:
        async with asyncio.timeout(2), context.sessions() as session:
            await session.execute(text("SET TRANSACTION READ ONLY"))
            return list((await session.scalars(living_workers())).all())
    except (SQLAlchemyError, OSError, TimeoutError):
        return None


async def _redis(context: AppContext) -> bool:
    try:
        async with asyncio.timeout(2):
            return bool(await context.redis.ping())
    except (RedisError, OSError, TimeoutError):
        return False


def _sandbox(workers: list[Worker]) -> SandboxHealth:
    reports: list[Any] = [w.info["sandbox"] for w in workers if w.info.get("sandbox")]
    if not reports:
        return SandboxHealth(status="unhealthy", backend=None, boundary=None, warnings=[])
    return SandboxHealth(
        status="healthy", **{k: reports[0][k] for k in ("backend", "boundary", "warnings")}
    )
