"""Jobs of one caller, read from executions and turns."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import ConflictError, NotFoundError
from sinas.models import Execution, ExecutionStatus, Turn, TurnStatus
from sinas.resources.jobs.repository import JobRepository
from sinas.resources.jobs.schemas import JobRead, JobResultRead, JobStatus

EXECUTION_STATUS: dict[ExecutionStatus, JobStatus] = {
    ExecutionStatus.PENDING: "queued",
    ExecutionStatus.RUNNING: "running",
    ExecutionStatus.AWAITING_INPUT: "running",
    ExecutionStatus.COMPLETED: "completed",
    ExecutionStatus.FAILED: "failed",
    ExecutionStatus.CANCELLED: "cancelled",
}
TURN_STATUS: dict[TurnStatus, JobStatus] = {
    TurnStatus.QUEUED: "queued",
    TurnStatus.RUNNING: "running",
    TurnStatus.WAITING: "running",
    TurnStatus.DELEGATED: "running",
    TurnStatus.COMPLETED: "completed",
    TurnStatus.FAILED: "failed",
    TurnStatus.CANCELLED: "cancelled",
}


class JobService:
    """Jobs of one caller; all with `sinas.system.read:all`."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self._rows = JobRepository(unit.session, principal)

    async def get(self, job_id: UUID) -> JobRead:
        """The state of a job.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        return (await self._both(job_id))[0]

    async def result(self, job_id: UUID) -> JobResultRead:
        """How a job ended.

        Raises:
            NotFoundError: Absent, or somebody else's.
            ConflictError: It has not ended.
        """
        job, result = await self._both(job_id)
        if job.status in ("queued", "running"):
            raise ConflictError(f"Job '{job_id}' has not ended; it is {job.status}.")
        return JobResultRead(
            job_id=job_id,
            status=job.status,
            result=result if job.status == "completed" else None,
            error=job.error,
        )

    async def _both(self, job_id: UUID) -> tuple[JobRead, Any]:
        if (execution := await self._rows.execution(job_id)) is not None:
            return _of_execution(execution), execution.output_data
        if (row := await self._rows.turn(job_id)) is not None:
            return _of_turn(row), row.content
        raise NotFoundError(f"Job '{job_id}' not found")


def _of_execution(row: Execution) -> JobRead:
    return JobRead(
        job_id=row.id,
        status=EXECUTION_STATUS[row.status],
        queue="functions",
        execution_id=row.id,
        function=f"{row.function_namespace}/{row.function_name}",
        trigger_type=row.trigger_type,
        chat_id=row.chat_id,
        channel_id=None,
        agent=None,
        error=row.error,
        enqueued_at=row.created_at.timestamp(),
    )


def _of_turn(row: Row[Turn, str | None, str | None, str | None]) -> JobRead:
    turn, namespace, name, _ = row
    agent = None if name is None else f"{namespace}/{name}"
    return JobRead(
        job_id=turn.id,
        status=TURN_STATUS[turn.status],
        queue="agents",
        execution_id=None,
        function=None,
        trigger_type=None,
        chat_id=turn.chat_id,
        channel_id=turn.channel_id,
        agent=agent,
        error=turn.error,
        enqueued_at=turn.created_at.timestamp(),
    )
