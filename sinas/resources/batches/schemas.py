"""Bodies and answers of batches."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field

from sinas.crud.schema import Input, Output
from sinas.kit.json_types import JsonObject
from sinas.models import BatchKind, CallbackStatus, ExecutionStatus

BatchStatus: TypeAlias = Literal["queued", "running", "completed", "failed", "partial", "cancelled"]


class BatchSubmit(Input):
    """Calls of one function: one for each of `inputs`."""

    inputs: Annotated[list[JsonObject], Field(min_length=1)]
    trigger_id_prefix: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The call with input i has the trigger id `<prefix>:<i>`, else `batch:<i>`.",
    )
    delay_seconds: int | None = Field(
        None, ge=0, le=2_592_000, description="How long after now the calls may start."
    )
    callback_url: str | None = Field(
        None, min_length=1, description="Told how each call ended; see CALLBACK_URL_HOSTS."
    )
    batch_callback_url: str | None = Field(
        None, min_length=1, description="Told when all calls have ended."
    )


class BatchSubmitted(Output):
    """An accepted batch; the ids are in the order of the inputs."""

    batch_id: UUID
    execution_ids: list[UUID]
    total: int
    status: BatchStatus


class BatchTarget(Output):
    """What the calls are of."""

    namespace: str
    name: str


class BatchRead(Output):
    """A batch and how far it is.

    `running` counts calls that wait for the answer to `input()`, too. `status` is `partial` when
    all have ended and only some of them well.
    """

    batch_id: UUID
    kind: BatchKind
    target: BatchTarget
    user_id: UUID
    total: int
    completed: int
    failed: int
    running: int
    queued: int
    cancelled: int
    status: BatchStatus
    started_at: datetime
    finished_at: datetime | None
    trigger_id_prefix: str | None
    execution_mode: Literal["queue"]
    callback_status: CallbackStatus | None
    callback_response_code: int | None


class BatchExecution(Output):
    """One call of a batch."""

    execution_id: UUID
    status: ExecutionStatus
    function_name: str
    chat_id: UUID | None
    trigger_id: str
    started_at: datetime
    completed_at: datetime | None
    duration_ms: int | None
    error: str | None


class BatchExecutions(Output):
    """Calls of a batch, in the order of their inputs."""

    executions: list[BatchExecution]


class BatchCancelled(Output):
    """A cancelled batch. Calls that had ended already are not counted."""

    batch_id: UUID
    status: BatchStatus
    cancelled_children: int


class CallbackKeyRead(Output):
    """What the caller's callbacks are signed with."""

    key: str = Field(description="HMAC-SHA256 is keyed with this text, as it stands here.")
    header: str = Field(description="Carries `t=<seconds since 1970>,v1=<hex digest>`.")
