"""The sandboxes of all living function workers, asked of the workers themselves.

The API process never talks to a container engine: a worker answers for what is its own, and a
worker that does not answer is shown as it last described itself with its lease.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from redis.exceptions import RedisError

from sinas.context import AppContext
from sinas.errors import (
    BadRequestError,
    FieldError,
    NotFoundError,
    SinasError,
    UnavailableError,
)
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.time import utcnow
from sinas.models import Worker
from sinas.queue.commands import Command, call_worker
from sinas.queue.job import Queue
from sinas.queue.lease import living_workers
from sinas.resources.sandboxes import commands
from sinas.resources.sandboxes.schemas import (
    Action,
    ContainerRead,
    ContainersReloaded,
    ContainersScaled,
    ContainerStats,
    Reloaded,
    ReloadStatus,
    WorkerRead,
    WorkersReloaded,
    WorkersScaled,
)
from sinas.sandbox import base

_MOST_WORKERS: Final = 10
_DESCRIBE_SECONDS = 2.0
_MEASURE_SECONDS = 10.0
_CHANGE_SECONDS = 120.0
_NOBODY = "No function worker runs, so there are no sandboxes to change; start one first."

_STATUS: TypeAdapter[base.SandboxStatus] = TypeAdapter(base.SandboxStatus)
_USAGE: TypeAdapter[dict[str, base.Usage]] = TypeAdapter(dict[str, base.Usage])
_SCALED: TypeAdapter[base.Scaled] = TypeAdapter(base.Scaled)
_RELOADED: TypeAdapter[base.Reloaded] = TypeAdapter(base.Reloaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The sandboxes of one function worker.

    Attributes:
        answers: Whether it said so itself just now; else this is what came with its lease.
        at: When it was so.
        usage: What each sandbox takes of its machine, by name; empty unless it was measured.
    """

    worker: Worker
    status: base.SandboxStatus
    answers: bool
    at: datetime
    usage: Mapping[str, base.Usage]


class SandboxService:
    """Sandboxes of the installation, for callers whose permission was checked."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def reports(self, *, measure: bool = False) -> list[Report]:
        """What each living function worker says of its sandboxes.

        Args:
            measure: Also measure CPU and memory of each sandbox, which takes about a second.
        """
        workers = await self._function_workers()
        arguments: JsonObject = {"usage": measure}
        answers = await self._ask(
            commands.describe,
            {worker.id: arguments for worker in workers},
            _MEASURE_SECONDS if measure else _DESCRIBE_SECONDS,
        )
        return [self._report(worker, answers[worker.id]) for worker in workers]

    async def workers(self) -> list[WorkerRead]:
        """The containers of the shared pool, by worker and name."""
        return [
            WorkerRead(
                id=f"worker-{member.name.removeprefix('sinas-shared-')}",
                container_name=member.name,
                status="retiring" if member.status == "retiring" else "running",
                created_at=_created_at(report, member),
                executions=member.executions,
                running=member.running,
                worker_id=report.worker.id,
            )
            for report in await self.reports()
            for member in report.status.shared
        ]

    async def scale_workers(self, target: int) -> WorkersScaled:
        """Have `target` containers take shared calls in all.

        Raises:
            BadRequestError: `target` is not 0 to 10.
            UnavailableError: No function worker runs, or one could not do it.
        """
        if not 0 <= target <= _MOST_WORKERS:
            message = f"target_count must be 0 to {_MOST_WORKERS}."
            raise BadRequestError(message, [FieldError("target_count", message)])
        shared = {
            report.worker.id: sum(one.status == "running" for one in report.status.shared)
            for report in await self._some_reports()
        }
        done = await self._scale(commands.scale_shared, target, shared)
        return WorkersScaled(
            action=_action(done.previous, target),
            previous_count=done.previous,
            current_count=done.current,
            added=done.added,
            removed=done.removed,
        )

    async def reload_workers(self) -> Reloaded:
        """Replace the containers of both pools.

        Raises:
            UnavailableError: No function worker runs.
        """
        done = await self._reload(commands.reload_shared)
        return Reloaded(
            workers=WorkersReloaded(
                status=_status(done),
                total_workers=done.replaced + done.failed,
                success=done.replaced,
                failed=done.failed,
                errors=list(done.errors),
            ),
            pool=await self.reload_containers(),
        )

    async def containers(self) -> ContainerStats:
        """The sandboxes that are no shared ones."""
        reports = await self.reports()
        idle = [_container(report, one) for report in reports for one in report.status.idle]
        in_use = [_container(report, one) for report in reports for one in report.status.in_use]
        return ContainerStats(
            idle=len(idle),
            in_use=len(in_use),
            total=len(idle) + len(in_use),
            max_size=sum(report.status.max_size for report in reports),
            min_idle=sum(report.status.min_idle for report in reports),
            max_executions=self._context.settings.sandbox.max_executions,
            idle_containers=idle,
            in_use_containers=in_use,
        )

    async def scale_containers(self, target: int) -> ContainersScaled:
        """Keep `target` sandboxes ready in all.

        Raises:
            BadRequestError: `target` is negative, or more than all workers may have.
            UnavailableError: No function worker runs, or one could not do it.
        """
        reports = await self._some_reports()
        most = sum(report.status.max_size for report in reports)
        if not 0 <= target <= most:
            message = (
                f"target must be 0 to {most}: SANDBOX_MAX_SIZE of {len(reports)} function workers."
            )
            raise BadRequestError(message, [FieldError("target", message)])
        own = {
            report.worker.id: len(report.status.idle) + len(report.status.in_use)
            for report in reports
        }
        done = await self._scale(commands.scale, target, own)
        return ContainersScaled(
            action=_action(done.previous, target),
            previous=done.previous,
            current=done.current,
            added=done.added,
            removed=done.removed,
        )

    async def reload_containers(self) -> ContainersReloaded:
        """Replace the sandboxes that are no shared ones.

        Raises:
            UnavailableError: No function worker runs.
        """
        done = await self._reload(commands.reload)
        return ContainersReloaded(
            status=_status(done),
            idle_containers=done.replaced + done.failed,
            success=done.replaced,
            failed=done.failed,
            errors=list(done.errors),
        )

    async def replace(self, name: str) -> None:
        """End one sandbox, with what runs in it, and have its worker start another.

        Raises:
            NotFoundError: No living function worker has a sandbox of that name.
            UnavailableError: Its worker does not answer.
        """
        for report in await self.reports():
            members = (*report.status.idle, *report.status.in_use, *report.status.shared)
            if any(member.name == name for member in members):
                arguments: JsonObject = {"name": name}
                _checked(await self._ask_one(report.worker.id, commands.replace, arguments, 10.0))
                return
        raise NotFoundError(f"Container '{name}' not found")

    # -- asking

    async def _function_workers(self) -> Sequence[Worker]:
        async with self._context.statement_sessions() as session:
            return (await session.scalars(living_workers(Queue.FUNCTIONS))).all()

    async def _some_reports(self) -> list[Report]:
        reports = await self.reports()
        if not reports:
            raise UnavailableError(_NOBODY)
        return reports

    def _report(self, worker: Worker, answer: JsonValue | SinasError) -> Report:
        if isinstance(answer, dict):
            return Report(
                worker=worker,
                status=_STATUS.validate_python(answer["status"]),
                answers=True,
                at=utcnow(),
                usage=_USAGE.validate_python(answer["usage"]),
            )
        return Report(
            worker=worker,
            status=_STATUS.validate_python(worker.info["sandbox"]),
            answers=False,
            at=worker.lease_until - timedelta(seconds=self._context.settings.queue.lease_seconds),
            usage={},
        )

    async def _scale(self, wanted: Command, target: int, have: Mapping[UUID, int]) -> base.Scaled:
        arguments: dict[UUID, JsonObject] = {
            worker: {"target": share} for worker, share in shares(target, have).items()
        }
        answers = await self._ask(wanted, arguments, _CHANGE_SECONDS)
        done = [_SCALED.validate_python(_checked(answer)) for answer in answers.values()]
        return base.Scaled(
            previous=sum(each.previous for each in done),
            current=sum(each.current for each in done),
            added=sum(each.added for each in done),
            removed=sum(each.removed for each in done),
        )

    async def _reload(self, wanted: Command) -> base.Reloaded:
        workers = await self._function_workers()
        if not workers:
            raise UnavailableError(_NOBODY)
        nothing: JsonObject = {}
        answers = await self._ask(
            wanted, {worker.id: nothing for worker in workers}, _CHANGE_SECONDS
        )
        done = [
            base.Reloaded(replaced=0, failed=1, errors=(answer.message,))
            if isinstance(answer, SinasError)
            else _RELOADED.validate_python(answer)
            for answer in answers.values()
        ]
        return base.Reloaded(
            replaced=sum(each.replaced for each in done),
            failed=sum(each.failed for each in done),
            errors=tuple(error for each in done for error in each.errors),
        )

    async def _ask(
        self, wanted: Command, arguments: Mapping[UUID, JsonObject], seconds: float
    ) -> dict[UUID, JsonValue | SinasError]:
        """Have several workers run a command at the same time; the answer or error of each."""
        async with asyncio.TaskGroup() as group:
            asked = {
                worker_id: group.create_task(self._ask_one(worker_id, wanted, given, seconds))
                for worker_id, given in arguments.items()
            }
        return {worker_id: task.result() for worker_id, task in asked.items()}

    async def _ask_one(
        self, worker_id: UUID, wanted: Command, arguments: JsonObject, seconds: float
    ) -> JsonValue | SinasError:
        context = self._context
        try:
            return await call_worker(
                context.redis, context.signals, worker_id, wanted, arguments, seconds=seconds
            )
        except SinasError as error:
            return error
        except RedisError:
            return UnavailableError("Redis does not answer, so workers cannot be asked.")


def shares(target: int, have: Mapping[UUID, int]) -> dict[UUID, int]:
    """`target` in even parts; workers that have most now get the larger ones."""
    part, more = divmod(target, len(have))
    order = sorted(have, key=lambda worker: (-have[worker], worker))
    return {worker: part + (place < more) for place, worker in enumerate(order)}


def _checked(answer: JsonValue | SinasError) -> JsonValue:
    if isinstance(answer, SinasError):
        raise answer
    return answer


def _action(previous: int, target: int) -> Action:
    if target == previous:
        return "no_change"
    return "scale_up" if target > previous else "scale_down"


def _status(done: base.Reloaded) -> ReloadStatus:
    if not done.failed:
        return "completed"
    return "partial" if done.replaced else "failed"


def _container(report: Report, member: base.SandboxMember) -> ContainerRead:
    return ContainerRead(
        name=member.name,
        status="running",
        executions=member.executions,
        age_seconds=round(member.age_seconds, 1),
        worker_id=report.worker.id,
    )


def _created_at(report: Report, member: base.SandboxMember) -> datetime:
    return (report.at - timedelta(seconds=member.age_seconds)).replace(microsecond=0)
