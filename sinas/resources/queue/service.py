"""The queue over all users: counts, jobs, dead letters, and ending what should not go on."""

from collections import Counter
from datetime import timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from sinas.auth.principal import Principal
from sinas.chat.stopping import stop_turn
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import ConflictError
from sinas.kit.time import utcnow
from sinas.models import TERMINAL_TURN, Execution, Worker
from sinas.queue.job import Queue
from sinas.resources.executions.service import ExecutionService
from sinas.resources.jobs.schemas import JobStatus
from sinas.resources.jobs.service import EXECUTION_STATUS, TURN_STATUS
from sinas.resources.queue.repository import QueueRepository
from sinas.resources.queue.schemas import (
    CancelledJob,
    DeadLetterCount,
    DeadLetterRead,
    Flushed,
    JobCounts,
    Pending,
    PoolCounts,
    QueueJobRead,
    QueueName,
    Queues,
    QueueStats,
    QueueWorkerRead,
    Retried,
    SharedCounts,
)
from sinas.resources.sandboxes.service import SandboxService

# How long jobs are remembered here after they ended.
_MEMORY: Final = timedelta(hours=24)
_QUEUES: Final[dict[str, QueueName]] = {Queue.FUNCTIONS: "functions", Queue.AGENTS: "agents"}


class QueueService:
    """Jobs of everybody, for callers whose permission was checked."""

    def __init__(self, unit: Unit, principal: Principal, context: AppContext) -> None:
        self._unit = unit
        self._context = context
        self._rows = QueueRepository(unit.session)
        self._executions = ExecutionService(unit, principal)

    async def stats(self) -> QueueStats:
        """Counts of jobs, dead letters and sandboxes."""
        # Before the first statement: a worker may be slow, and the transaction waits for nobody.
        reports = await SandboxService(self._context).reports()
        pending = await self.pending()
        counts = await self._counts()
        dead_letters = await self._executions.count_dead_letters()
        idle = sum(len(report.status.idle) for report in reports)
        in_use = sum(len(report.status.in_use) for report in reports)
        shared = [member.status for report in reports for member in report.status.shared]
        return QueueStats(
            queues=Queues(
                functions=Pending(pending=pending["functions"]),
                agents=Pending(pending=pending["agents"]),
            ),
            jobs=counts,
            dlq=DeadLetterCount(size=dead_letters),
            pool=PoolCounts(idle=idle, in_use=in_use, total=idle + in_use),
            workers=SharedCounts(count=len(shared), running=shared.count("running")),
        )

    async def pending(self, *, also_delayed: bool = True) -> dict[QueueName, int]:
        """How many jobs wait in each queue."""
        functions, agents = await self._rows.waiting(also_delayed=also_delayed)
        return {"functions": functions, "agents": agents}

    async def dead_letter_count(self) -> int:
        """How many calls are in the dead-letter list."""
        return await self._executions.count_dead_letters()

    async def workers(self) -> list[QueueWorkerRead]:
        """The living workers of both queues, oldest first."""
        term = self._context.settings.queue.lease_seconds
        return [_worker(row, term) for row in await self._rows.workers()]

    async def jobs(self, *, status: JobStatus | None, limit: int) -> list[QueueJobRead]:
        """Jobs in the order they were queued, newest first."""
        since = utcnow() - _MEMORY
        executions = [own for own, told in EXECUTION_STATUS.items() if status in (None, told)]
        turns = [own for own, told in TURN_STATUS.items() if status in (None, told)]
        found = chain(
            map(_of_execution, await self._rows.executions(executions, since, limit)),
            map(_of_turn, await self._rows.turns(turns, since, limit)),
        )
        return sorted(found, key=lambda job: (job.enqueued_at, job.job_id), reverse=True)[:limit]

    async def cancel(self, job_id: UUID) -> CancelledJob:
        """End a job, whoever's it is: code that runs is killed, a turn stops where it is.

        Raises:
            NotFoundError: No such job.
            ConflictError: It has ended.
        """
        before = await stop_turn(self._unit, job_id)
        if before in TERMINAL_TURN:
            raise ConflictError(f"Job '{job_id}' has ended; it is {before}.")
        if before is not None:
            return CancelledJob(job_id=job_id, status="cancelling")
        await self._executions.cancel_any(job_id)
        return CancelledJob(job_id=job_id, status="cancelled")

    async def dead_letters(self, *, skip: int, limit: int) -> list[DeadLetterRead]:
        """Calls that nobody waited for and that failed for good, last failed first."""
        rows = await self._executions.dead_letters(skip=skip, limit=limit)
        return [_dead_letter(row) for row in rows]

    async def retry(self, job_id: UUID) -> Retried:
        """Run a dead letter again, as a new job.

        Raises:
            NotFoundError: No dead letter of that id.
            ConflictError: Its function was deleted.
        """
        new = await self._executions.retry_dead_letter(job_id, self._context.settings.function)
        return Retried(old_job_id=job_id, new_job_id=new)

    async def flush_dead_letters(self) -> Flushed:
        """Empty the dead-letter list; the executions stay on record."""
        return Flushed(flushed=await self._executions.flush_dead_letters())

    async def _counts(self) -> JobCounts:
        since = utcnow() - _MEMORY
        counts: Counter[JobStatus] = Counter()
        for own, number in (await self._rows.execution_counts(since)).items():
            counts[EXECUTION_STATUS[own]] += number
        for state, number in (await self._rows.turn_counts(since)).items():
            counts[TURN_STATUS[state]] += number
        return JobCounts(
            queued=counts["queued"],
            running=counts["running"],
            completed=counts["completed"],
            failed=counts["failed"],
            cancelled=counts["cancelled"],
        )


def _worker(row: Worker, term: float) -> QueueWorkerRead:
    return QueueWorkerRead(
        worker_id=row.id,
        queue=_QUEUES[row.queue],
        max_jobs=row.max_jobs,
        started_at=row.started_at.timestamp(),
        last_heartbeat=row.lease_until.timestamp() - term,
        hostname=row.hostname,
        pid=row.pid,
    )


def _of_execution(row: Row[Any]) -> QueueJobRead:
    return QueueJobRead(
        job_id=row.id,
        status=EXECUTION_STATUS[row.status],
        queue="functions",
        function=f"{row.function_namespace}/{row.function_name}",
        agent=None,
        type=None,
        trigger_type=row.trigger_type,
        chat_id=row.chat_id,
        execution_id=row.id,
        channel_id=None,
        error=row.error,
        enqueued_at=row.created_at.timestamp(),
        user_id=row.user_id,
        user_email=row.email,
    )


def _of_turn(row: Row[Any]) -> QueueJobRead:
    return QueueJobRead(
        job_id=row.id,
        status=TURN_STATUS[row.status],
        queue="agents",
        function=None,
        agent=None if row.agent_name is None else f"{row.agent_namespace}/{row.agent_name}",
        type="resume" if row.is_resumed else "message",
        trigger_type=None,
        chat_id=row.chat_id,
        execution_id=None,
        channel_id=row.channel_id,
        error=row.error,
        enqueued_at=row.created_at.timestamp(),
        user_id=row.user_id,
        user_email=row.email,
    )


def _dead_letter(row: Execution) -> DeadLetterRead:
    assert row.dead_lettered_at is not None
    return DeadLetterRead(
        job_id=row.id,
        execution_id=row.id,
        function=f"{row.function_namespace}/{row.function_name}",
        function_namespace=row.function_namespace,
        function_name=row.function_name,
        input_data=row.input_data,
        trigger_type=row.trigger_type,
        trigger_id=row.trigger_id,
        user_id=row.user_id,
        chat_id=row.chat_id,
        error=row.error,
        attempts=row.attempt,
        failed_at=row.dead_lettered_at.timestamp(),
    )
