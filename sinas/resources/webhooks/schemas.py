"""Bodies and answers of webhooks and their deliveries."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.json_types import JsonObject
from sinas.kit.templates import MAX_KEPT_CHARS
from sinas.models import DeliveryStatus, HttpMethod, ResponseMode, TargetType

# Ends the path of a webhook's own operations under /api/v1/webhooks.
_RESERVED = "deliveries"
TIMESTAMP = "{timestamp}"
BODY = "{body}"


def _without_reserved(path: str) -> str:
    if _RESERVED in path.split("/"):
        raise ValueError(f"must not have '{_RESERVED}' between slashes: that is an operation here")
    return path


Path = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[a-zA-Z0-9_/-]+$",
        description="What follows `/webhooks/` in the URL; may contain slashes.",
    ),
]
FunctionPart = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")
]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Header = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
]
Template = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEPT_CHARS,  # filled in on the event loop, for every call
        description="Jinja2; sees the payload's keys, and all of it as `payload`.",
    ),
]


class Dedup(Input):
    """When a call is a repetition of another one."""

    key: str = Field(
        min_length=3,
        max_length=512,
        pattern=r"^(\$(\.[^.]+)+|header:.+)$",
        description="`$.a.b`, a path into the payload, or `header:Name`. Calls without a value "
        "there are never repetitions.",
    )
    ttl_seconds: int = Field(300, ge=1, le=86_400)


class Signature(Input):
    """How callers sign. The key is a secret of the webhook's owner, private ones before shared."""

    secret: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the secret.",
    )
    header: Header = Field(description="Carries the signature.")
    algorithm: Literal["sha256", "sha1", "sha512", "plain"] = Field(
        "sha256", description="HMAC with this hash; `plain`: the header is the secret itself."
    )
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(
        "",
        max_length=64,
        description="Stands before the signature. With a prefix, the header may be a comma list, "
        "of which one entry has to be right.",
    )
    signed_content: str = Field(
        BODY,
        max_length=255,
        description=f"What is signed: `{BODY}` once, and `{TIMESTAMP}` where callers sign it.",
    )
    timestamp_header: Header | None = Field(
        None, description=f"Carries `{TIMESTAMP}`; null: it is the entry `t=` of `header`."
    )
    tolerance_seconds: int = Field(
        300, ge=1, le=86_400, description="How far a signed timestamp may be from now."
    )

    @field_validator("signed_content")
    @classmethod
    def _content(cls, value: str) -> str:
        if value.count(BODY) != 1:
            raise ValueError(f"must contain {BODY} once")
        if value.count(TIMESTAMP) > 1:
            raise ValueError(f"must not contain {TIMESTAMP} twice")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.timestamp_header is not None and TIMESTAMP not in self.signed_content:
            raise ValueError(
                f"timestamp_header: a timestamp that is not signed proves nothing; put {TIMESTAMP} "
                "into signed_content as the caller signs it"
            )
        return self


class WebhookCreate(Input):
    """A new webhook. Targets are a function, or an agent with `target_type` `agent`."""

    path: Path
    target_type: TargetType = TargetType.FUNCTION
    function_namespace: FunctionPart | None = Field(None, description="`default` if left out.")
    function_name: FunctionPart | None = None
    agent_namespace: Name | None = Field(None, description="`default` if left out.")
    agent_name: Name | None = None
    http_method: HttpMethod = HttpMethod.POST
    description: str | None = None
    default_values: JsonObject | None = Field(
        None, description="Lies under the input: used where the call says nothing else."
    )
    requires_auth: bool = Field(
        True, description="Whether callers sign in, and it runs as them; else as its owner."
    )
    response_mode: ResponseMode = ResponseMode.SYNC
    dedup: Dedup | None = None
    signature: Signature | None = None
    message_template: Template | None = None
    session_key_template: Template | None = None
    is_active: bool = True

    _reserved = field_validator("path")(_without_reserved)


class WebhookUpdate(Change):
    """Changes; what is left out stays. Null removes what may be absent."""

    target_type: TargetType | None = None
    function_namespace: FunctionPart | None = None
    function_name: FunctionPart | None = None
    agent_namespace: Name | None = None
    agent_name: Name | None = None
    http_method: HttpMethod | None = None
    description: str | None = None
    default_values: JsonObject | None = None
    is_active: bool | None = None
    requires_auth: bool | None = None
    response_mode: ResponseMode | None = None
    dedup: Dedup | None = None
    signature: Signature | None = None
    message_template: Template | None = None
    session_key_template: Template | None = None


class WebhookRead(Stamped):
    """A webhook."""

    user_id: UUID
    path: str
    target_type: TargetType
    function_namespace: str | None
    function_name: str | None
    agent_namespace: str | None
    agent_name: str | None
    http_method: HttpMethod
    description: str | None
    default_values: JsonObject | None
    is_active: bool
    requires_auth: bool
    response_mode: ResponseMode
    dedup: Dedup | None
    signature: Signature | None
    message_template: str | None
    session_key_template: str | None


class DeliveryRead(Output):
    """One call of a webhook.

    `status` is `accepted` until what it started has ended. `job_id` is the turn of an agent.
    """

    id: UUID
    received_at: datetime
    method: str
    query: str
    headers: JsonObject
    content_type: str | None
    body_bytes: int
    client_address: str | None
    user_id: UUID | None
    status: DeliveryStatus
    error: str | None
    execution_id: UUID | None
    chat_id: UUID | None
    job_id: UUID | None
    replay_of: UUID | None


class DeliveryDetail(DeliveryRead):
    """A delivery with what is kept of its body: as text, or in base64 where it is none."""

    body: str | None
    body_base64: str | None


class DeliveryReplayed(Output):
    """A delivery that was sent again, as `delivery_id`."""

    delivery_id: UUID
    execution_id: UUID | None
    chat_id: UUID | None
    job_id: UUID | None = Field(validation_alias="turn_id")
