"""What the API says of an execution."""

from datetime import datetime
from uuid import UUID

from pydantic import computed_field

from sinas.crud.schema import Output
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import ExecutionStatus, TriggerType


class ExecutionRead(Output):
    """One run of a function.

    `duration_ms` is the time inside the sandbox. `stdout` and `stderr` are cut at the
    installation's limit. `parent_execution_id` names the run whose code made this call.
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
    error: str | None
    traceback: str | None
    stdout: str | None
    stderr: str | None
    started_at: datetime
    completed_at: datetime | None
    duration_ms: int | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def execution_id(self) -> UUID:
        """The same as `id`."""
        return self.id
