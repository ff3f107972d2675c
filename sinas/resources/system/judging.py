"""From what was measured to what an operator is told: pure."""

from collections.abc import Iterator, Mapping, Sequence

from sinas.resources.queue.schemas import QueueName
from sinas.resources.system.schemas import HostRead, Level, SandboxRead, ServiceRead, WarningRead
from sinas.sandbox.base import SandboxStatus

_MANY_PENDING = 50
_FULL_PERCENT = 90
_FILLING_PERCENT = 75
# Nothing works without them.
_VITAL = frozenset({"redis", "postgres"})
_WORKERS = {"worker-functions": "function", "worker-agents": "agent"}


def warnings_of(
    services: Sequence[ServiceRead],
    host: HostRead,
    *,
    pending: Mapping[QueueName, int],
    dead_letters: int,
    boundaries: int,
) -> list[WarningRead]:
    """What an operator should know, worst first.

    Args:
        services: All there are.
        host: The machine.
        pending: Waiting jobs by queue.
        dead_letters: Calls in the dead-letter list.
        boundaries: How many different boundaries function workers put around user code.
    """
    found = [
        *_of_services(services),
        *_of_queues(pending, dead_letters),
        *_of_boundaries(boundaries),
        *_of_host(host),
    ]
    order: Sequence[Level] = ("critical", "warning", "info")
    return sorted(found, key=lambda warning: order.index(warning.level))


def _of_services(services: Sequence[ServiceRead]) -> Iterator[WarningRead]:
    for kind, word in _WORKERS.items():
        if not any(one.service == kind for one in services):
            yield WarningRead(level="critical", message=f"No {word} worker runs.")
    for one in services:
        if one.status != "running":
            level: Level = "critical" if one.service in _VITAL else "warning"
            yield WarningRead(level=level, message=f"{one.name} is not running.")
        elif one.health == "unhealthy":
            yield WarningRead(level="warning", message=f"{one.name} is unhealthy.")


def _of_queues(pending: Mapping[QueueName, int], dead_letters: int) -> Iterator[WarningRead]:
    if dead_letters:
        calls = "1 call is" if dead_letters == 1 else f"{dead_letters} calls are"
        yield WarningRead(level="warning", message=f"{calls} in the dead-letter list.")
    for queue, waiting in pending.items():
        if waiting > _MANY_PENDING:
            message = f"{waiting} jobs wait in the queue '{queue}'."
            yield WarningRead(level="warning", message=message)


def _of_boundaries(boundaries: int) -> Iterator[WarningRead]:
    if boundaries > 1:
        message = "Function workers run user code behind different boundaries; see `sandbox`."
        yield WarningRead(level="warning", message=message)


def _of_host(host: HostRead) -> Iterator[WarningRead]:
    for what, percent in (("Memory", host.memory_percent), ("The disk", host.disk_percent)):
        if percent > _FILLING_PERCENT:
            level: Level = "warning" if percent > _FULL_PERCENT else "info"
            message = f"{what} of the host is {percent:g} % full."
            yield WarningRead(level=level, message=message)


def sandbox_of(statuses: Sequence[SandboxStatus]) -> SandboxRead | None:
    """The weakest boundary among function workers, and what any of them does not isolate."""
    if not statuses:
        return None
    # A process has less around it than a container; of one kind, more warnings mean less.
    weakest = max(statuses, key=lambda one: (one.backend == "process", len(one.warnings)))
    warnings = dict.fromkeys(text for one in (weakest, *statuses) for text in one.warnings)
    return SandboxRead(backend=weakest.backend, boundary=weakest.boundary, warnings=list(warnings))
