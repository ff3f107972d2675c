"""What the API says of the installation as a whole."""

from typing import Literal

from sinas.crud.schema import Output

Level = Literal["critical", "warning", "info"]


class WarningRead(Output):
    """Something an operator should know."""

    level: Level
    message: str


class MemoryRead(Output):
    """Memory of a service, in MiB."""

    used_mb: float
    limit_mb: float
    percent: float


class ServiceRead(Output):
    """A process or container of the platform.

    `uptime_seconds` is left out where it is not known, `cpu_percent` (of one CPU) and `memory`
    unless they were asked for and could be measured.
    """

    name: str
    service: str
    status: Literal["running", "stopped"]
    health: Literal["healthy", "unhealthy", "none"]
    uptime_seconds: int | None = None
    cpu_percent: float | None = None
    memory: MemoryRead | None = None


class HostRead(Output):
    """The machine of the API process; the disk is the one with the data directory."""

    cpu_percent: float
    memory_total_mb: float
    memory_used_mb: float
    memory_percent: float
    disk_total_gb: float
    disk_used_gb: float
    disk_percent: float


class SandboxRead(Output):
    """What separates user code from the machine, and what it does not isolate.

    Where function workers differ, the weakest boundary is the one that counts.
    """

    backend: str
    boundary: str
    warnings: list[str]


class HealthRead(Output):
    """How the installation is. `sandbox` is left out while no function worker runs."""

    warnings: list[WarningRead]
    services: list[ServiceRead]
    host: HostRead
    sandbox: SandboxRead | None


class Restarted(Output):
    """A container that was ended, and replaced by another one."""

    status: Literal["restarted"]
    container: str


class FlushedJobs(Output):
    """How many function calls were cancelled; all had run for more than `max_age_hours`."""

    cancelled: int
    max_age_hours: int
