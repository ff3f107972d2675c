"""Runtime routes of jobs."""

from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.resources.jobs.schemas import JobRead, JobResultRead
from sinas.resources.jobs.service import JobService
from sinas.web.deps import CREDENTIALS, authenticated
from sinas.web.ids import TextId
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/jobs", tags=["jobs"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Jobs = Annotated[JobService, Depends(authenticated(JobService))]


@router.get("/{job_id}")
async def get_job(job_id: TextId, jobs: Jobs) -> JobRead:
    """Get the state of a function call or of a turn; yours, or any with `sinas.system.read:all`."""
    return await jobs.get(job_id)


@router.get("/{job_id}/result")
async def get_job_result(job_id: TextId, jobs: Jobs) -> JobResultRead:
    """Get how a job ended. 409 while it has not."""
    return await jobs.result(job_id)
