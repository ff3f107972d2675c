"""What the API says of an execution."""

from datetime import datetime
from uuid import UUID

from pydantic import Field, computed_field

from sinas.crud.schema import Input, Output
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import CallbackStatus, ExecutionKind, ExecutionStatus, TriggerType


class ExecutionContinue(Input):
    """The answer to what an execution asks.

    The code gets `input.value` where there is one, else the only value of `input`, else all of
    it: text as it is, anything else as JSON text.
    """

    input: JsonObject


class ExecutionContinueRead(Output):
    """How a continued execution ended, or that it asks again.

    `status` is RUNNING when neither happened within the function's time limit. `output_data`
    counts when it is COMPLETED, `prompt` when it is AWAITING_INPUT, `error` otherwise. `schema`
    is always null: an answer is text.
    """

    execution_id: UUID
    status: ExecutionStatus
    output_data: JsonValue
    prompt: str | None
    answer_schema: JsonObject | None = Field(alias="schema")
    error: str | None


class ExecutionRead(Output):
    """One run of a function.

    `duration_ms` is the time inside the sandbox, without the time the code waited for input.
    `prompt` is what it asks while it is AWAITING_INPUT. `stdout` and `stderr` are cut at the
    installation's limit. `parent_execution_id` names the run whose code made this call, `depth`
    is 1 for calls from outside. `attempt` counts the attempts that have begun; while another one
    is due, the error is that of the last. `dead_lettered_at` is set while a failed call that
    nobody waited for is in the dead-letter list.
    """

    id: UUID
    function_namespace: str
    function_name: str
    trigger_type: TriggerType
    trigger_id: str
    chat_id: UUID | None
    tool_call_id: str | None
    parent_execution_id: UUID | None
    status: ExecutionStatus
    input_data: JsonObject
    output_data: JsonValue
    prompt: str | None
    error: str | None
    traceback: str | None
    stdout: str | None
    stderr: str | None
    started_at: datetime
    completed_at: datetime | None
    duration_ms: int | None
    kind: ExecutionKind
    attempt: int
    depth: int
    batch_id: UUID | None
    callback_status: CallbackStatus | None
    callback_response_code: int | None
    dead_lettered_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def execution_id(self) -> UUID:
        """The same as `id`."""
        return self.id
