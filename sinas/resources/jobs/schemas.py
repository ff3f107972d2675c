"""What the API says of a job."""

from typing import Literal
from uuid import UUID

from sinas.crud.schema import Output
from sinas.kit.json_types import JsonValue

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobRead(Output):
    """A function call (job id = execution id) or a turn of a chat (job id = turn id).

    `function` and `agent` are `namespace/name`; `enqueued_at` is in seconds since 1970.
    """

    job_id: UUID
    status: JobStatus
    queue: Literal["functions", "agents"]
    execution_id: UUID | None
    function: str | None
    trigger_type: str | None
    chat_id: UUID | None
    channel_id: str | None
    agent: str | None
    error: str | None
    enqueued_at: float


class JobResultRead(Output):
    """How a job ended: a function's return value, or a turn's reply as text."""

    job_id: UUID
    status: JobStatus
    result: JsonValue
    error: str | None
