"""Bodies of the connector operations."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.json_types import JsonObject
from sinas.resources.connectors.checks import (
    check_address,
    check_base_url,
    check_header,
    check_header_name,
    check_path,
)

MAX_OPERATIONS: Final = 10_000
Identifier = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]*$")
]
OperationName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]*$")
]
SecretName = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]
HeaderName = Annotated[str, Field(max_length=255), AfterValidator(check_header_name)]
BaseUrl = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(check_base_url)]
Address = Annotated[str, Field(max_length=2048), AfterValidator(check_address)]
Headers = Annotated[dict[str, Annotated[str, Field(max_length=8192)]], Field(max_length=100)]
Seconds = Annotated[int, Field(ge=1, le=300, description="For one attempt.")]
AuthType = Literal[
    "bearer",
    "basic",
    "api_key",
    "sinas_token",
    "oauth2_authorization_code",
    "oauth2_client_credentials",
    "none",
]
ParameterName = Annotated[str, Field(max_length=100, pattern=r"^[a-zA-Z][a-zA-Z0-9_.-]*$")]
_OF_THE_FLOW = frozenset(
    {
        *("client_id", "code_challenge", "code_challenge_method", "redirect_uri", "response_type"),
        *("scope", "self", "state", "uri"),
    }
)
_SECRET_NEEDED = frozenset({"bearer", "basic", "api_key", "oauth2_client_credentials"})
_OAUTH = frozenset({"oauth2_authorization_code", "oauth2_client_credentials"})


class ConnectorAuth(Input):
    """How requests are authorized. It names a secret; it never holds one."""

    type: AuthType = "none"
    secret: SecretName | None = Field(
        None,
        description="Name of the secret: a token, `user:password` for `basic`, a key, or the "
        "client's secret. The acting user's private one wins over the shared one.",
    )
    header: HeaderName | None = Field(
        None, description="For `api_key`: the header; `X-Api-Key` when left out."
    )
    position: Literal["header", "query"] | None = Field(
        None, description="For `api_key`: where it goes; `header` when left out."
    )
    param_name: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="For `api_key` in the query: the parameter; `api_key` when left out.",
    )
    client_id: str | None = Field(None, min_length=1, max_length=1024, description="OAuth 2.0.")
    authorize_url: Address | None = Field(
        None, description="OAuth 2.0: where a user's browser is sent to."
    )
    token_url: Address | None = Field(None, description="OAuth 2.0: where tokens come from.")
    scopes: list[Annotated[str, Field(min_length=1, max_length=255)]] | None = Field(
        None, max_length=100, description="OAuth 2.0: what is asked for."
    )
    client_auth: Literal["basic", "body"] | None = Field(
        None, description="OAuth 2.0: how the client signs in; `basic` when left out."
    )
    authorize_params: dict[ParameterName, Annotated[str, Field(max_length=1024)]] | None = Field(
        None,
        max_length=20,
        description="OAuth 2.0: more parameters of `authorize_url`, such as `access_type`.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type in _SECRET_NEEDED and self.secret is None:
            raise ValueError(f"secret is missing: the type {self.type} needs the name of one")
        needed = ("client_id", "token_url") if self.type in _OAUTH else ()
        if self.type == "oauth2_authorization_code":
            needed = (*needed, "authorize_url")
        if self.authorize_url is not None and not self.authorize_url.startswith("https://"):
            raise ValueError("authorize_url must start with https://: a user signs in there")
        if taken := _OF_THE_FLOW & (self.authorize_params or {}).keys():
            raise ValueError(f"authorize_params.{min(taken)} is written by the platform")
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing: the type {self.type} needs it")
        return self

    def stored(self) -> JsonObject:
        """The contract's five fields always, the others where they are given."""
        always = ("type", "secret", "header", "position", "param_name")
        values = self.model_dump(mode="json")
        return {k: v for k, v in values.items() if k in always or v is not None}


class ConnectorRetry(Input):
    """When a call is tried again: after 429, 5xx, timeouts and broken connections."""

    max_attempts: int = Field(1, ge=1, le=10)
    backoff: Literal["exponential", "linear", "none"] = Field(
        "none", description="What is waited at least; a longer `Retry-After` is honoured."
    )


class Binding(Input):
    """Where one argument goes, and how it is written there."""

    location: Literal["path", "query", "header", "cookie", "body"] = Field(alias="in")
    name: str | None = Field(
        None, min_length=1, max_length=255, description="What the service calls it."
    )
    style: Literal["form", "spaceDelimited", "pipeDelimited", "deepObject", "json"] | None = Field(
        None, description="Of OpenAPI; `json` writes the value as JSON text."
    )
    explode: bool | None = Field(None, description="Of OpenAPI.")

    @model_validator(mode="after")
    def _is_sendable(self) -> Self:
        if self.location == "header" and self.name is not None:
            check_header_name(self.name)
        return self


class OperationConfig(Input):
    """One operation of a service."""

    name: OperationName
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    path: Annotated[str, Field(max_length=4096), AfterValidator(check_path)] = Field(
        description="Below the base URL; `{{name}}` or `{name}` stands for an argument, which is "
        "percent-encoded."
    )
    description: str | None = None
    parameters: JsonObject = Field(
        default_factory=dict, description="JSON Schema of the arguments, an object."
    )
    request_body_mapping: Literal["json", "query", "path_and_json", "path_and_query"] = Field(
        "json", description="Where arguments go that neither the path nor a binding names."
    )
    response_mapping: Literal["json", "text"] = "json"
    bindings: dict[str, Binding] = Field(
        default_factory=dict, description="By argument, for those that go elsewhere."
    )
    content_type: str = Field(
        "application/json",
        max_length=255,
        pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$",
        description="Of the body: JSON, a form, `multipart/form-data`, or anything else for a "
        "`body_argument` that is text.",
    )
    body_argument: str | None = Field(
        None, description="The argument that is the whole body, instead of one member of it."
    )
    base_url: BaseUrl | None = Field(
        None, description="Where it is, if elsewhere than the connector's other operations."
    )
    idempotent: bool | None = Field(
        None,
        description="Whether doing it twice is as doing it once, so that it may be tried again "
        "when it may have been done; as HTTP has it for the method when left out.",
    )

    def stored(self) -> JsonObject:
        """The contract's fields always, the others where they say something."""
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        usual = {"bindings": {}, "content_type": "application/json"}
        kept = {key: value for key, value in values.items() if usual.get(key) != value}
        return {"description": self.description, **kept}


Operations = Annotated[list[OperationConfig], Field(max_length=MAX_OPERATIONS)]


class _Common(Input):
    @field_validator("headers", check_fields=False)
    @classmethod
    def _are_headers(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            check_header(name, text)
        return value


class ConnectorCreate(_Common):
    """A new connector."""

    namespace: Identifier = "default"
    name: Identifier
    description: str | None = None
    base_url: BaseUrl
    auth: ConnectorAuth = Field(default_factory=ConnectorAuth)
    headers: Headers = Field(default_factory=dict)
    retry: ConnectorRetry = Field(default_factory=ConnectorRetry)
    timeout_seconds: Seconds = 30
    operations: Operations = Field(default_factory=list)
    is_active: bool = True


class ConnectorUpdate(_Common, Change):
    """Changes; what is left out stays, and null is as if left out, but for the description."""

    namespace: Identifier | None = None
    name: Identifier | None = None
    description: str | None = None
    base_url: BaseUrl | None = None
    auth: ConnectorAuth | None = None
    headers: Headers | None = None
    retry: ConnectorRetry | None = None
    timeout_seconds: Seconds | None = None
    operations: Operations | None = None
    is_active: bool | None = None


class ConnectorRead(Stamped):
    """A connector."""

    user_id: UUID
    namespace: str
    name: str
    description: str | None
    base_url: str
    auth: JsonObject
    headers: JsonObject
    retry: JsonObject
    timeout_seconds: int
    operations: list[JsonObject]
    is_active: bool


class ConnectorTestRequest(Input):
    """Arguments of an operation."""

    parameters: JsonObject = Field(default_factory=dict)


class ConnectorTestResponse(Output):
    """What the service answered, error statuses included."""

    status_code: int
    headers: dict[str, str]
    body: JsonValue
    elapsed_ms: float


class OpenAPIImportRequest(Input):
    """An OpenAPI document, as text or by its address."""

    spec: str | None = Field(None, description="JSON or YAML of OpenAPI 3.0 or 3.1.")
    spec_url: str | None = Field(None, max_length=2048)
    operations: list[str] | None = Field(
        None, description="Names of the operations to take; all when left out."
    )
    apply: bool = Field(
        False, description="Store them in the connector, over those of the same name."
    )


class OpenAPIImportResponse(Output):
    """What was found in the document, and how many operations were stored."""

    operations: list[dict[str, Any]]
    warnings: list[str]
    applied: int
    spec_title: str | None
    spec_description: str | None
    spec_base_url: str | None


class AuthorizationStart(Output):
    """Where the user's browser goes on."""

    authorize_url: str
    expires_in_seconds: int


class AuthorizationRead(Output):
    """Whether the caller allowed this connector to act for them. Tokens are never shown."""

    connected: bool
    scope: str | None
    expires_at: datetime | None = Field(description="Of the access token; null if unknown.")
    renews: bool = Field(description="Whether it is renewed without asking again.")
