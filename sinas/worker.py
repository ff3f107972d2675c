"""The worker processes: one queue each, jobs from the registry, a lease, a drain."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Literal

import psutil
import structlog
import uvloop

from sinas.context import AppContext, WorkerContext, open_context
from sinas.kit.json_types import JsonObject
from sinas.logs import configure_logging
from sinas.queue.commands import serve_commands
from sinas.queue.job import Queue
from sinas.queue.lanes import agent_lanes, function_lanes, sandboxes_needed
from sinas.queue.lease import WorkerLease
from sinas.queue.worker import QueueWorker
from sinas.registry import RESOURCES
from sinas.sandbox.base import Sandbox
from sinas.sandbox.environments import Environments
from sinas.sandbox.opening import open_sandbox
from sinas.settings import Settings, load_settings

log = structlog.get_logger(__name__)

Kind = Literal["functions", "agents"]


def run_worker(kind: Kind) -> None:
    """Work until SIGTERM or SIGINT, then drain. Blocks."""
    settings = load_settings()
    configure_logging(settings.core)
    # Each call holds three descriptors, and hundreds of shared ones may wait for input.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_serve(kind, settings))


async def _serve(kind: Kind, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_context(settings) as context, open_worker(kind, context) as worker:
        log.info("worker.ready", queue=kind)
        stopping = asyncio.ensure_future(stop.wait())
        ended = asyncio.ensure_future(worker.ended.wait())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        ended.cancel()
        if not stop.is_set():
            # The lease is gone: others may do this process's work already. Ending at once is
            # the one way to be sure that nothing here goes on; the supervisor starts anew.
            raise SystemExit(75)
        log.info("worker.draining", queue=kind)


class RunningWorker:
    """A worker that takes jobs. `ended` is set when it must not go on."""

    def __init__(self, context: WorkerContext, queue_worker: QueueWorker) -> None:
        self.context = context
        self.queue_worker = queue_worker
        self.ended = context.lease_lost


@asynccontextmanager
async def open_worker(kind: Kind, context: AppContext) -> AsyncIterator[RunningWorker]:
    """Start taking jobs; on leaving the block, drain, then free what is left."""
    settings = context.settings
    queue, lanes = _queue(kind, settings)
    process = psutil.Process()
    async with AsyncExitStack() as stack:
        sandbox: list[Sandbox] = []
        lease = WorkerLease(
            context.engine,
            queue=queue,
            max_jobs=lanes[""],
            term=timedelta(seconds=settings.queue.lease_seconds),
            info=lambda: _info(process, sandbox),
        )
        if kind == "functions":
            opened = await open_sandbox(
                settings,
                worker_id=str(lease.worker_id),
                progress=lambda line: log.info("sandbox.progress", step=line),
                most=sandboxes_needed(settings),
            )
            stack.push_async_callback(opened.aclose)
            sandbox.append(opened)
        await lease.acquire()
        stack.push_async_callback(lease.release)
        worker = WorkerContext(
            app=context,
            worker_id=lease.worker_id,
            lease_lost=lease.lost,
            sandbox=sandbox[0] if sandbox else None,
            environments=_environments(sandbox[0], settings) if sandbox else None,
            tools=tuple(r.tools(context) for r in RESOURCES if r.tools is not None),
            hooks=next((r.hooks(context) for r in RESOURCES if r.hooks is not None), None),
            instructions=tuple(
                r.instructions(context) for r in RESOURCES if r.instructions is not None
            ),
            abandon=tuple(r.abandon for r in RESOURCES if r.abandon is not None),
        )
        jobs = [job for resource in RESOURCES for job in resource.jobs]
        queue_worker = QueueWorker(context.redis, queue, jobs, worker, lanes)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(lease.keep())
            taking = group.create_task(_until_cancelled(queue_worker))
            beside = [group.create_task(work) for work in _beside(kind, worker)]
            try:
                await context.signals.ready()
                yield RunningWorker(worker, queue_worker)
            finally:
                await queue_worker.drain(settings.queue.drain_seconds)
                for task in (renewing, taking, *beside):
                    task.cancel()


async def _until_cancelled(worker: QueueWorker) -> None:
    with suppress(asyncio.CancelledError):
        await worker.main()


def _beside(kind: Kind, worker: WorkerContext) -> Iterator[Coroutine[Any, Any, None]]:
    """What a worker does besides taking jobs."""
    if kind == "functions":
        app = worker.app
        commands = [command for resource in RESOURCES for command in resource.commands]
        yield serve_commands(app.redis, app.signals, worker.worker_id, commands, worker)
        yield from (r.watch(worker) for r in RESOURCES if r.watch is not None)


def _queue(kind: Kind, settings: Settings) -> tuple[Queue, dict[str, int]]:
    if kind == "functions":
        return Queue.FUNCTIONS, function_lanes(settings)
    return Queue.AGENTS, agent_lanes(settings)


def _environments(sandbox: Sandbox, settings: Settings) -> Environments:
    return Environments(
        settings.core.environments_dir, sandbox, build_seconds=settings.dependency.build_timeout
    )


def _info(process: psutil.Process, sandbox: list[Sandbox]) -> JsonObject:
    """What operators see of this worker; CPU is since the lease was renewed last."""
    info: JsonObject = {
        "process": {
            "cpu_percent": process.cpu_percent(interval=None),
            "memory_mb": process.memory_info().rss / 2**20,
            "limit_mb": psutil.virtual_memory().total / 2**20,
        }
    }
    if sandbox:
        status = asdict(sandbox[0].status())
        info["sandbox"] = {**status, "warnings": list(status["warnings"])}
    return info
