"""What the API says of the queue. Moments are in seconds since 1970."""

from typing import Literal
from uuid import UUID

from sinas.crud.schema import Output
from sinas.kit.json_types import JsonObject
from sinas.models import TriggerType
from sinas.resources.jobs.schemas import JobRead

QueueName = Literal["functions", "agents"]


class Pending(Output):
    """How many jobs wait in one queue, delayed ones included."""

    pending: int


class Queues(Output):
    """The queues."""

    functions: Pending
    agents: Pending


class JobCounts(Output):
    """Function calls and turns by status."""

    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int


class DeadLetterCount(Output):
    """The dead-letter list."""

    size: int


class PoolCounts(Output):
    """Sandboxes for one call at a time, over all function workers."""

    idle: int
    in_use: int
    total: int


class SharedCounts(Output):
    """Containers of the shared pool; `running` ones take calls, the others end."""

    count: int
    running: int


class QueueStats(Output):
    """The state of the queue."""

    queues: Queues
    jobs: JobCounts
    dlq: DeadLetterCount
    pool: PoolCounts
    workers: SharedCounts


class QueueJobRead(JobRead):
    """A job and whose it is. `type` says whether a turn answers a message or goes on."""

    type: Literal["message", "resume"] | None
    user_id: UUID
    user_email: str


class QueueWorkerRead(Output):
    """A process that takes jobs. It counts as gone when its heartbeats stop."""

    worker_id: UUID
    queue: QueueName
    max_jobs: int
    started_at: float
    last_heartbeat: float
    hostname: str
    pid: int


class DeadLetterRead(Output):
    """A call that nobody waited for and that failed for good. `function` is `namespace/name`."""

    job_id: UUID
    execution_id: UUID
    function: str
    function_namespace: str
    function_name: str
    input_data: JsonObject
    trigger_type: TriggerType
    trigger_id: str
    user_id: UUID
    chat_id: UUID | None
    error: str | None
    attempts: int
    failed_at: float


class Flushed(Output):
    """How many entries were taken from the dead-letter list. Their executions stay."""

    flushed: int


class Retried(Output):
    """A dead letter and the job that runs it again."""

    old_job_id: UUID
    new_job_id: UUID


class CancelledJob(Output):
    """A job that was cancelled; `cancelling` while a worker still has to end it."""

    job_id: UUID
    status: Literal["cancelled", "cancelling"]
