"""Bodies and answers of batches."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field

from sinas.crud.schema import Input, Output
from sinas.kit.json_types import JsonObject
from sinas.models import BatchKind, CallbackStatus, ExecutionStatus
from sinas.resources.chats.schemas import Content

ExecutionMode: TypeAlias = Literal["queue", "provider"]
BatchStatus: TypeAlias = Literal["queued", "running", "completed", "failed", "partial", "cancelled"]


class Submit(Input):
    """What all batches can say."""

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


class BatchSubmit(Submit):
    """Calls of one function: one for each of `inputs`."""

    inputs: Annotated[list[JsonObject], Field(min_length=1)]


class ChatInput(Input):
    """One chat of a batch: what it begins with, and what the agent is to answer."""

    input_variables: JsonObject | None = Field(
        None, description="The chat's `input`, checked against the agent's input_schema."
    )
    message: Content


class ChatBatchSubmit(Submit):
    """Messages to one agent, each in a chat of its own: one for each of `inputs`."""

    inputs: Annotated[list[ChatInput], Field(min_length=1)]
    execution_mode: ExecutionMode = Field(
        "queue", description="Only `queue` is there; providers' own batches are refused with 400."
    )


class BatchSubmitted(Output):
    """An accepted batch; the ids are in the order of the inputs."""

    batch_id: UUID
    execution_ids: list[UUID]
    total: int
    status: BatchStatus


class ChatBatchSubmitted(BatchSubmitted):
    """An accepted batch of chats. An execution id is the turn's: `/jobs/{id}` has it, too."""

    chat_ids: list[UUID]
    execution_mode: ExecutionMode


class BatchTarget(Output):
    """The function, or the agent."""

    namespace: str
    name: str


class BatchRead(Output):
    """A batch and how far it is.

    `running` counts calls that wait for the answer to `input()`, and turns that ask the user
    something, too. `status` is `partial` when all have ended and only some of them well.
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
    execution_mode: ExecutionMode
    callback_status: CallbackStatus | None
    callback_response_code: int | None


class BatchExecution(Output):
    """One call of a function, or one turn of an agent, which `function_name` names then.

    A turn that asks the user something is `AWAITING_INPUT`.
    """

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
    """A cancelled batch. Calls that had ended already are not counted.

    Turns that a worker runs end shortly after this answer.
    """

    batch_id: UUID
    status: BatchStatus
    cancelled_children: int


class CallbackKeyRead(Output):
    """What the caller's callbacks are signed with."""

    key: str = Field(description="HMAC-SHA256 is keyed with this text, as it stands here.")
    header: str = Field(description="Carries `t=<seconds since 1970>,v1=<hex digest>`.")
