"""Bodies of the operations on sandboxes.

`worker` is what the API's clients call a container of the shared pool; a process that takes jobs
is a function worker or an agent worker.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sinas.crud.schema import Input, Output

Action = Literal["scale_up", "scale_down", "no_change"]
ReloadStatus = Literal["completed", "partial", "failed"]


class WorkerRead(Output):
    """A container of the shared pool.

    One that is `retiring` takes no new calls and ends after its last one. `running` counts the
    calls in it now, `executions` those it ever took. `worker_id` is the function worker it
    belongs to.
    """

    id: str
    container_name: str
    status: Literal["running", "retiring"]
    created_at: datetime
    executions: int
    running: int
    worker_id: UUID


class WorkerCount(Output):
    """How many containers the shared pool has, retiring ones included."""

    count: int


class WorkersScale(Input):
    """How many containers of the shared pool take calls, over all function workers: 0 to 10."""

    target_count: int


class WorkersScaled(Output):
    """What a scaling of the shared pool did."""

    action: Action
    previous_count: int
    current_count: int
    added: int
    removed: int


class WorkersReloaded(Output):
    """What a reload of the shared pool did. `errors` has a sentence for each failure."""

    status: ReloadStatus
    total_workers: int
    success: int
    failed: int
    errors: list[str]


class ContainerRead(Output):
    """A sandbox for one call at a time. `executions` counts the calls it ever took."""

    name: str
    status: Literal["running"]
    executions: int
    age_seconds: float
    worker_id: UUID


class ContainerStats(Output):
    """The sandboxes of all function workers; sizes are sums over them."""

    idle: int
    in_use: int
    total: int
    max_size: int
    min_idle: int
    max_executions: int
    idle_containers: list[ContainerRead]
    in_use_containers: list[ContainerRead]


class ContainersScale(Input):
    """How many sandboxes are kept ready, over all function workers."""

    target: int


class ContainersScaled(Output):
    """What a scaling of the sandboxes did."""

    action: Action
    previous: int
    current: int
    added: int
    removed: int


class ContainersReloaded(Output):
    """What a reload of the sandboxes did; `idle_containers` were replaced at once."""

    status: ReloadStatus
    idle_containers: int
    success: int
    failed: int
    errors: list[str]


class Reloaded(Output):
    """What a reload of both pools did."""

    workers: WorkersReloaded
    pool: ContainersReloaded
