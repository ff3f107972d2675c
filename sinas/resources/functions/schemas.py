"""Bodies and answers of functions."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.json_types import JsonObject, JsonValue

Identifier = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")
]
Code = Annotated[
    str, Field(min_length=1, description="A module that defines `handler(input_data, context)`.")
]
InputSchema = Annotated[
    JsonObject, Field(description="JSON Schema (draft 2020-12) of the input; has a `type`.")
]
OutputSchema = Annotated[
    JsonObject, Field(description="JSON Schema (draft 2020-12) of the return value; has a `type`.")
]
Timeout = Annotated[
    int, Field(ge=1, description="Seconds a call may run; null for the installation's default.")
]
WaitSeconds = Annotated[
    int,
    Field(ge=1, le=86_400, description="Seconds to wait for the end; the call itself goes on."),
]

Idempotent = Annotated[
    bool,
    Field(
        description="Whether running it twice with the same input does no harm: an attempt that "
        "fails, or whose worker dies, is then followed by another one."
    ),
]
SecretName = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]
EnabledSecrets = Annotated[
    list[SecretName],
    Field(
        max_length=1000,
        description="Secrets a shared-pool function gets, by name; null for all that its caller "
        "may use.",
    ),
]


class FunctionRetry(Input):
    """How often a call is attempted; what is null is the installation's setting.

    It counts for idempotent functions, and for every call whose code could not be started.
    """

    max_attempts: int | None = Field(
        None, ge=1, le=10, description="The first one included; 1 for no other one."
    )
    delay_seconds: float | None = Field(
        None, ge=0, le=86_400, description="From the end of the first attempt to the second."
    )
    backoff: Literal["exponential", "linear", "none"] | None = Field(
        None, description="How the delay grows; `exponential` where it is null."
    )


class FunctionCreate(Input):
    """A new function."""

    namespace: Identifier = "default"
    name: Identifier
    description: str | None = None
    code: Code
    input_schema: InputSchema
    output_schema: OutputSchema
    icon: str | None = None
    shared_pool: bool = False
    requires_approval: bool = False
    timeout: Timeout | None = None
    idempotent: Idempotent = False
    retry: FunctionRetry | None = None
    enabled_secrets: EnabledSecrets | None = None
    is_active: bool = True


class FunctionUpdate(Change):
    """Fields to change. A body with `code` makes a new version."""

    set_by_platform = Change.set_by_platform | {"icon_url"}

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: str | None = None
    code: Code | None = None
    input_schema: InputSchema | None = None
    output_schema: OutputSchema | None = None
    icon: str | None = None
    shared_pool: bool | None = None
    requires_approval: bool | None = None
    timeout: Timeout | None = None
    idempotent: Idempotent | None = None
    retry: FunctionRetry | None = None
    enabled_secrets: EnabledSecrets | None = None
    is_active: bool | None = None


class FunctionRead(Stamped):
    """A function."""

    namespace: str
    name: str
    description: str | None
    code: str
    input_schema: JsonObject
    output_schema: JsonObject
    icon: str | None
    icon_url: str | None
    shared_pool: bool
    requires_approval: bool
    timeout: int | None
    idempotent: bool
    retry: FunctionRetry | None
    enabled_secrets: list[str] | None
    is_active: bool


class FunctionVersionRead(Output):
    """Code and schemas as one change left them."""

    id: UUID
    function_id: UUID
    version: int
    code: str
    input_schema: JsonObject
    output_schema: JsonObject
    created_at: datetime
    created_by: UUID


class FunctionExecute(Input):
    """A call that waits for its result."""

    input: JsonObject = Field(default_factory=dict)
    timeout: WaitSeconds | None = None
    trigger_id: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="Marks the call: shown with its execution, and, where there is no header "
        "`Idempotency-Key`, a second call of yours with the same id and input is the first one.",
    )


class FunctionExecuteAsync(FunctionExecute):
    """A call that is only queued. `timeout` is accepted and without effect: nobody waits."""

    delay_seconds: int | None = Field(
        None, ge=0, le=2_592_000, description="How long after now the call may start."
    )
    callback_url: str | None = Field(
        None, min_length=1, description="Told how the call ended; see CALLBACK_URL_HOSTS."
    )


class FunctionExecuteRead(Output):
    """How a call ended, or that it had not ended when the wait did (`timeout`)."""

    status: Literal["success", "timeout", "error"]
    execution_id: UUID
    result: JsonValue
    error: str | None


class FunctionExecuteAsyncRead(Output):
    """A queued call."""

    execution_id: UUID
    status: Literal["queued"]
