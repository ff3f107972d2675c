"""Chooses the back end that the settings and the machine allow."""

import re
from collections.abc import Callable

import structlog

from sinas.errors import ConfigurationError, UnavailableError
from sinas.sandbox.base import Profile, Sandbox
from sinas.sandbox.both import BothPools
from sinas.sandbox.pool import MemberSource
from sinas.sandbox.process import ProcessSource
from sinas.sandbox.wire import Limits
from sinas.settings import Settings

_log = structlog.get_logger(__name__)

_MIB = 1024**2
_LEAST_MIB = 64


async def open_sandbox(
    settings: Settings,
    *,
    worker_id: str,
    progress: Callable[[str], None],
    most: int | None = None,
) -> Sandbox:
    """Start the sandboxes of one worker.

    Args:
        settings: `sandbox.backend` chooses; `auto` takes Docker where an engine answers and the
            executor image is there or can be had, or a runtime is named, else processes.
        worker_id: Written on containers.
        progress: Told, as lines, what takes long (building the image).
        most: Sandboxes at most when calls made by user code need them; SANDBOX_MAX_SIZE without.

    Raises:
        UnavailableError: The chosen back end cannot work on this machine.
        ConfigurationError: Processes in production without leave, or a setting says nothing.
    """
    backend = settings.sandbox.backend
    if backend == "process":
        return await _started(_process(settings, reason=""), settings, most)
    # Who names a runtime wants what it isolates: processes are no substitute.
    if backend == "docker" or settings.sandbox.runtime:
        return await _started(_docker(settings, worker_id, progress), settings, most)
    try:
        return await _started(_docker(settings, worker_id, progress), settings, most)
    except UnavailableError as error:
        _log.warning("sandbox.docker_unavailable", reason=error.message)
        reason = f"Docker was not used: {error.message}"
        return await _started(_process(settings, reason=reason), settings, most)


def _docker(settings: Settings, worker_id: str, progress: Callable[[str], None]) -> MemberSource:
    # The SDK takes 0.2 s to import and is not needed where processes are chosen.
    from sinas.sandbox.docker import DockerSource  # noqa: PLC0415

    return DockerSource(
        settings, call_limits(settings, "docker"), worker_id=worker_id, progress=progress
    )


def _process(settings: Settings, *, reason: str) -> MemberSource:
    if settings.is_production and not settings.sandbox.allow_process_in_production:
        why = f" {reason}" if reason else ""
        raise ConfigurationError(
            "Functions would run as plain processes of this machine, which production refuses: "
            "provide a Docker engine, or set SANDBOX_ALLOW_PROCESS_IN_PRODUCTION=true if every "
            f"author of functions is trusted.{why}"
        )
    return ProcessSource(settings, call_limits(settings, "process"), reason=reason)


async def _started(source: MemberSource, settings: Settings, most: int | None) -> Sandbox:
    sandbox = settings.sandbox
    shared = Profile(kind="shared", memory_mb=memory_mib(sandbox.shared_memory))
    pools = BothPools(source, settings, most=most or sandbox.max_size, shared=shared)
    await pools.start()
    return pools


def memory_mib(text: str) -> int:
    """Read WORKER_MEMORY_LIMIT: `1g`, `512m`, `524288k` or bytes, in MiB.

    Raises:
        ConfigurationError: It is none of these, or too little for a Python process.
    """
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise ConfigurationError(
            f"WORKER_MEMORY_LIMIT is {text!r}; write a number with k, m or g, such as 1g or 512m."
        )
    bytes_each = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}[match[2].lower()]
    size = int(match[1]) * bytes_each // _MIB
    if size < _LEAST_MIB:
        raise ConfigurationError(
            f"WORKER_MEMORY_LIMIT is {text!r}; shared containers need {_LEAST_MIB}m at least."
        )
    return size


def call_limits(settings: Settings, backend: str) -> Limits:
    """What is applied to each call."""
    return Limits(
        result_bytes=settings.function.max_result_bytes,
        output_bytes=settings.function.max_output_bytes,
        memory_mb=settings.sandbox.memory_mb,
        memory_error_is_limit=backend == "process",
    )
