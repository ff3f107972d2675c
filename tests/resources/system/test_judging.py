"""What is worth a warning, as a table."""

from typing import Any

import pytest

from sinas.resources.system.judging import sandbox_of, warnings_of
from sinas.resources.system.schemas import HostRead, ServiceRead
from sinas.sandbox.base import SandboxStatus


def service(name: str, kind: str = "", **fields: Any) -> ServiceRead:
    values = {
        "status": "running",
        "health": "healthy",
        "uptime_seconds": 1,
        "cpu_percent": None,
        "memory": None,
        **fields,
    }
    return ServiceRead(name=name, service=kind or name, **values)


def host(memory: float = 10, disk: float = 10) -> HostRead:
    return HostRead(
        cpu_percent=0,
        memory_total_mb=1,
        memory_used_mb=1,
        memory_percent=memory,
        disk_total_gb=1,
        disk_used_gb=1,
        disk_percent=disk,
    )


ALL = [
    service("redis"),
    service("postgres"),
    service("f-1", "worker-functions"),
    service("a-1", "worker-agents"),
]


def judged(
    services: list[ServiceRead] = ALL,
    machine: HostRead | None = None,
    *,
    functions: int = 0,
    agents: int = 0,
    dead_letters: int = 0,
    boundaries: int = 1,
) -> list[tuple[str, str]]:
    found = warnings_of(
        services,
        machine or host(),
        pending={"functions": functions, "agents": agents},
        dead_letters=dead_letters,
        boundaries=boundaries,
    )
    return [(warning.level, warning.message) for warning in found]


def test_nothing_to_say() -> None:
    assert judged(functions=50, agents=50, machine=host(75, 75)) == []


def test_no_worker_is_critical() -> None:
    assert judged(ALL[:3]) == [("critical", "No agent worker runs.")]
    assert judged([*ALL[:2], ALL[3]]) == [("critical", "No function worker runs.")]


def test_services_that_are_down_or_ill() -> None:
    down = service("redis", status="stopped", health="unhealthy")
    assert judged([down, *ALL[1:]]) == [("critical", "redis is not running.")]
    other = service("box", "sandbox", status="stopped", health="none")
    assert judged([*ALL, other]) == [("warning", "box is not running.")]
    ill = service("f-2", "worker-functions", health="unhealthy")
    assert judged([*ALL, ill]) == [("warning", "f-2 is unhealthy.")]


def test_queues() -> None:
    assert judged(functions=51) == [("warning", "51 jobs wait in the queue 'functions'.")]
    assert judged(agents=51) == [("warning", "51 jobs wait in the queue 'agents'.")]
    assert judged(dead_letters=1) == [("warning", "1 call is in the dead-letter list.")]
    assert judged(dead_letters=2) == [("warning", "2 calls are in the dead-letter list.")]


@pytest.mark.parametrize(
    ("percent", "levels"), [(75, []), (75.1, ["info"]), (90, ["info"]), (90.1, ["warning"])]
)
def test_memory_and_disk(percent: float, levels: list[str]) -> None:
    assert [level for level, _ in judged(machine=host(memory=percent))] == levels
    assert [level for level, _ in judged(machine=host(disk=percent))] == levels


def test_the_worst_comes_first() -> None:
    found = judged(ALL[:3], host(disk=80), dead_letters=1, boundaries=2)
    assert [level for level, _ in found] == ["critical", "warning", "warning", "info"]


def status(backend: str, boundary: str, *warnings: str) -> SandboxStatus:
    return SandboxStatus(
        backend=backend,
        boundary=boundary,
        warnings=warnings,
        idle=(),
        in_use=(),
        max_size=1,
        min_idle=0,
        shared=(),
    )


def test_the_weakest_boundary_counts() -> None:
    assert sandbox_of([]) is None
    strong, weak = status("docker", "container", "kernel"), status("process", "user", "files")
    found = sandbox_of([strong, weak])
    assert found is not None
    assert (found.backend, found.boundary) == ("process", "user")
    assert found.warnings == ["files", "kernel"]
    one = sandbox_of([strong, strong])
    assert one is not None
    assert (one.boundary, one.warnings) == ("container", ["kernel"])
