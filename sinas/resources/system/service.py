"""How the installation is, and what an operator does about what is stuck."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.kit.time import utcnow
from sinas.models import Worker
from sinas.queue.job import Queue
from sinas.queue.lease import living_workers
from sinas.resources.executions.service import ExecutionService
from sinas.resources.queue.service import QueueService
from sinas.resources.sandboxes.service import Report, SandboxService
from sinas.resources.system.judging import sandbox_of, warnings_of
from sinas.resources.system.measuring import (
    measure_api,
    measure_host,
    measure_postgres,
    measure_redis,
    memory_of,
)
from sinas.resources.system.schemas import FlushedJobs, HealthRead, Restarted, ServiceRead
from sinas.sandbox.base import SandboxMember

_STUCK_HOURS: Final = 2


class SystemService:
    """The installation, for callers whose permission was checked."""

    def __init__(self, context: AppContext, principal: Principal) -> None:
        self._context = context
        self._principal = principal
        self._sandboxes = SandboxService(context)

    async def health(self, *, include_stats: bool) -> HealthRead:
        """Ask every part how it is.

        Args:
            include_stats: Also measure CPU and memory of each service.
        """
        context = self._context
        host = await asyncio.to_thread(measure_host, context.settings.core.data_dir)
        redis = await measure_redis(context, include_stats=include_stats)
        reports = await self._sandboxes.reports(measure=include_stats)
        services = [
            redis,
            await measure_postgres(context),
            await asyncio.to_thread(measure_api, include_stats=include_stats),
            *(_function_worker(report, include_stats) for report in reports),
            *(_worker(row, "healthy", include_stats) for row in await self._agent_workers()),
            *(each for report in reports for each in _containers(report)),
        ]
        async with context.statement_unit() as unit:
            queue = QueueService(unit, self._principal, context)
            dead_letters = await queue.dead_letter_count()
            pending = await queue.pending(also_delayed=False)
        statuses = [report.status for report in reports]
        return HealthRead(
            warnings=warnings_of(
                services,
                host,
                pending=pending,
                dead_letters=dead_letters,
                boundaries=len({status.boundary for status in statuses}),
            ),
            services=services,
            host=host,
            sandbox=sandbox_of(statuses),
        )

    async def restart(self, container: str) -> Restarted:
        """End a sandbox, with what runs in it, and have another one made.

        Raises:
            NotFoundError: Not the name of a sandbox of this installation: nothing else can be
                restarted, whatever runs on the machine.
        """
        await self._sandboxes.replace(container)
        return Restarted(status="restarted", container=container)

    async def flush_stuck_jobs(self, unit: Unit) -> FlushedJobs:
        """Cancel calls that have run for more than two hours and longer than they may."""
        executions = ExecutionService(unit, self._principal)
        cancelled = await executions.cancel_stuck(timedelta(hours=_STUCK_HOURS))
        return FlushedJobs(cancelled=cancelled, max_age_hours=_STUCK_HOURS)

    async def _agent_workers(self) -> Sequence[Worker]:
        async with self._context.statement_sessions() as session:
            return (await session.scalars(living_workers(Queue.AGENTS))).all()


def _function_worker(report: Report, include_stats: bool) -> ServiceRead:
    # It holds its lease; one that does not do what it is asked hangs or is cut off from Redis.
    return _worker(report.worker, "healthy" if report.answers else "unhealthy", include_stats)


def _worker(row: Worker, health: Any, include_stats: bool) -> ServiceRead:
    service = "worker-functions" if row.queue == Queue.FUNCTIONS else "worker-agents"
    process: Any = row.info["process"]
    return ServiceRead(
        name=f"{service}-{str(row.id)[-8:]}",
        service=service,
        status="running",
        health=health,
        uptime_seconds=int((utcnow() - row.started_at).total_seconds()),
        cpu_percent=process["cpu_percent"] if include_stats else None,
        memory=memory_of(process["memory_mb"], process["limit_mb"]) if include_stats else None,
    )


def _containers(report: Report) -> Iterator[ServiceRead]:
    status = report.status
    for member in (*status.idle, *status.in_use):
        yield _container(report, member, "sandbox")
    for member in status.shared:
        yield _container(report, member, "shared")


def _container(report: Report, member: SandboxMember, service: str) -> ServiceRead:
    usage = report.usage.get(member.name)
    memory = None if usage is None else memory_of(usage.memory_used_mb, usage.memory_limit_mb)
    return ServiceRead(
        name=member.name,
        service=service,
        status="running",
        health="none",
        uptime_seconds=int(member.age_seconds),
        cpu_percent=None if usage is None else usage.cpu_percent,
        memory=memory,
    )
