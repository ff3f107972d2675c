"""Management operations of the queue."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.resources.jobs.schemas import JobStatus
from sinas.resources.queue.schemas import (
    CancelledJob,
    DeadLetterRead,
    Flushed,
    QueueJobRead,
    QueueStats,
    QueueWorkerRead,
    Retried,
)
from sinas.resources.queue.service import QueueService
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted_everywhere
from sinas.web.ids import TextId
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/queue", tags=["queue"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _for(action: str) -> Callable[..., Awaitable[QueueService]]:
    check = permitted_everywhere("system", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> QueueService:
        return QueueService(unit, principal, context)

    return build


Read = Annotated[QueueService, Depends(_for("read"))]
Update = Annotated[QueueService, Depends(_for("update"))]


@router.get("/stats")
async def queue_stats(queue: Read) -> QueueStats:
    """Count jobs by queue and by status, dead letters and sandboxes.

    `completed`, `failed` and `cancelled` count jobs that were queued within the last 24 hours.
    """
    return await queue.stats()


@router.get("/jobs")
async def list_jobs(
    queue: Read,
    status: JobStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Jobs at most.")] = 50,
) -> list[QueueJobRead]:
    """List function calls and turns of everybody, last queued first.

    All that are queued or run; of those that ended, the ones queued within the last 24 hours.
    """
    return await queue.jobs(status=status, limit=limit)


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: TextId, queue: Update) -> CancelledJob:
    """Cancel a job: code that runs is killed, a turn stops where it is. 409 when it has ended."""
    return await queue.cancel(job_id)


@router.get("/dlq")
async def list_dead_letters(
    queue: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> list[DeadLetterRead]:
    """List calls that nobody waited for and that failed for good, last failed first."""
    return await queue.dead_letters(skip=skip, limit=limit)


@router.post("/dlq/flush")
async def flush_dead_letters(queue: Update) -> Flushed:
    """Empty the dead-letter list. The executions stay on record."""
    return await queue.flush_dead_letters()


@router.post("/dlq/{job_id}/retry")
async def retry_dead_letter(job_id: TextId, queue: Update) -> Retried:
    """Run a dead letter again, as a new job."""
    return await queue.retry(job_id)


@router.get("/workers")
async def list_queue_workers(queue: Read) -> list[QueueWorkerRead]:
    """List the processes that take jobs."""
    return await queue.workers()
