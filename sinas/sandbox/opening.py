"""Chooses the back end that the settings and the machine allow."""

from collections.abc import Callable

import structlog

from sinas.errors import ConfigurationError, UnavailableError
from sinas.sandbox.base import Sandbox
from sinas.sandbox.pool import SandboxPool
from sinas.sandbox.process import ProcessSource
from sinas.sandbox.wire import Limits
from sinas.settings import Settings

_log = structlog.get_logger(__name__)


async def open_sandbox(
    settings: Settings, *, worker_id: str, progress: Callable[[str], None]
) -> Sandbox:
    """Start the sandbox of one worker.

    Args:
        settings: `sandbox.backend` chooses; `auto` takes Docker where an engine answers and the
            executor image is there or can be had, else processes.
        worker_id: Written on containers.
        progress: Told, as lines, what takes long (building the image).

    Raises:
        UnavailableError: The chosen back end cannot work on this machine.
        ConfigurationError: Processes in production without leave.
    """
    backend = settings.sandbox.backend
    if backend == "process":
        return await _start_process(settings, reason="")
    if backend == "docker":
        return await _start_docker(settings, worker_id, progress)
    try:
        return await _start_docker(settings, worker_id, progress)
    except UnavailableError as error:
        _log.warning("sandbox.docker_unavailable", reason=error.message)
        return await _start_process(settings, reason=f"Docker was not used: {error.message}")


async def _start_docker(
    settings: Settings, worker_id: str, progress: Callable[[str], None]
) -> Sandbox:
    # The SDK takes 0.2 s to import and is not needed where processes are chosen.
    from sinas.sandbox.docker import DockerSource  # noqa: PLC0415

    source = DockerSource(
        settings, call_limits(settings, "docker"), worker_id=worker_id, progress=progress
    )
    return await _started(SandboxPool(source, settings.sandbox))


async def _start_process(settings: Settings, *, reason: str) -> Sandbox:
    if settings.is_production and not settings.sandbox.allow_process_in_production:
        why = f" {reason}" if reason else ""
        raise ConfigurationError(
            "Functions would run as plain processes of this machine, which production refuses: "
            "provide a Docker engine, or set SANDBOX_ALLOW_PROCESS_IN_PRODUCTION=true if every "
            f"author of functions is trusted.{why}"
        )
    source = ProcessSource(settings, call_limits(settings, "process"), reason=reason)
    return await _started(SandboxPool(source, settings.sandbox))


async def _started(pool: SandboxPool) -> Sandbox:
    await pool.start()
    return pool


def call_limits(settings: Settings, backend: str) -> Limits:
    """What is applied to each call."""
    return Limits(
        result_bytes=settings.function.max_result_bytes,
        output_bytes=settings.function.max_output_bytes,
        memory_mb=settings.sandbox.memory_mb,
        memory_error_is_limit=backend == "process",
    )
