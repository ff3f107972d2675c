"""Bodies of the agent operations."""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from sinas.crud.schema import Change, Input, Output, Stamped
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.kit.templates import MAX_KEPT_CHARS, MAX_SOURCE_CHARS


def _valid_schema(value: JsonObject) -> JsonObject:
    try:
        check_schema(value)
    except BadSchemaError as error:
        where = "/".join(str(part) for part in error.path)
        raise ValueError(
            f"is no valid JSON Schema{' at ' + where if where else ''}: {error.message}"
        ) from error
    return value


def _short(parameters: dict[str, JsonObject]) -> dict[str, JsonObject]:
    """Each is filled in whenever tools are offered; a text that is no template may be long."""
    for tool, entries in parameters.items():
        for name, entry in entries.items():
            value: JsonValue = entry.get("value") if isinstance(entry, dict) else entry
            if not isinstance(value, str):
                continue
            most = MAX_KEPT_CHARS if _MARKUP.search(value) else MAX_SOURCE_CHARS
            if len(value) > most:
                raise ValueError(f"{tool}.{name}: has {len(value)} characters; at most {most}")
    return parameters


def _not_too_much(messages: list["InitialMessage"]) -> list["InitialMessage"]:
    _limit(sum(len(message.content) for message in messages))
    return messages


def _not_too_many(texts: dict[str, str]) -> dict[str, str]:
    _limit(sum(map(len, texts.values())))
    return texts


def _limit(total: int) -> None:
    if total > MAX_SOURCE_CHARS:
        raise ValueError(f"have {total} characters together; at most {MAX_SOURCE_CHARS}")


_MARKUP = re.compile(r"\{[{%#]")
Namespace = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z][a-zA-Z0-9 _\-():]*$")]
Schema = Annotated[JsonObject, AfterValidator(_valid_schema)]
_Part = r"[a-zA-Z_][a-zA-Z0-9 _\-():]*"
Reference = Annotated[
    str,
    Field(
        max_length=511,
        pattern=rf"^({_Part}/({_Part}|\*)|\*/\*)$",
        description="`namespace/name`, `namespace/*` or `*/*`.",
    ),
]
AgentId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="An agent's id instead of its name.",
    ),
]
Prompt = Annotated[
    str,
    Field(max_length=MAX_SOURCE_CHARS, description="Jinja2 over the chat's input and `user`."),
]
StatusTemplates = Annotated[
    dict[str, Annotated[str, Field(max_length=MAX_KEPT_CHARS)]], AfterValidator(_not_too_many)
]
Parameters = Annotated[dict[str, JsonObject], AfterValidator(_short)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Positive = Annotated[int, Field(gt=0, le=2**31 - 1)]
Access = Literal["readonly", "readwrite"]


class InitialMessage(Input):
    """A message a new chat starts with; `content` may be a template over the chat's input."""

    role: Literal["user", "assistant", "system"]
    content: str


class EnabledSkill(Input):
    """A skill, as a tool or preloaded into the system prompt."""

    skill: Reference
    preload: bool = False


class EnabledStore(Input):
    """A state store and what the agent may do in it."""

    store: Reference
    access: Access = "readonly"


class EnabledCollection(Input):
    """A file collection and what the agent may do in it."""

    collection: Reference
    access: Access = "readonly"


class EnabledConnector(Input):
    """A connector; no operations means all of them."""

    connector: Reference
    operations: list[str] = []
    parameters: Parameters = {}


class Hook(Input):
    """A function called for a message."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True, populate_by_name=True)

    function: Reference
    is_async: bool = Field(False, alias="async", serialization_alias="async")
    on_timeout: Literal["block", "passthrough"] = Field(
        "passthrough", validation_alias=AliasChoices("on_timeout", "onTimeout")
    )
    hold_back: bool = Field(
        False,
        validation_alias=AliasChoices("hold_back", "holdBack"),
        description="For a synchronous hook of assistant messages: clients get no text of a final "
        "answer before it has passed.",
    )


class Hooks(Input):
    """Functions called for messages, in order."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    on_user_message: list[Hook] = Field(
        [], validation_alias=AliasChoices("on_user_message", "onUserMessage")
    )
    on_assistant_message: list[Hook] = Field(
        [], validation_alias=AliasChoices("on_assistant_message", "onAssistantMessage")
    )


class ApprovalRule(Input):
    """Which calls the rule is for, and whether they wait for a person."""

    match: str = Field(
        min_length=1,
        max_length=255,
        description="Glob over the tool's name (`call_agent_*`), or over `namespace/name`.",
    )
    action: Literal["auto", "ask"]


class ToolApprovals(Input):
    """When tool calls wait for a person.

    The first rule that matches decides, else what the tool itself demands, else the default.
    """

    default: Literal["auto", "ask"] = "auto"
    rules: list[ApprovalRule] = Field([], max_length=100)

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> Any:
        """An empty object is as good as none, and stays one."""
        return dump(self) if self.model_fields_set else {}


class SystemTool(Input):
    """A built-in tool; `connections` limits database introspection."""

    name: str
    connections: list[str] | None = None


def _named(key: str) -> BeforeValidator:
    """Accept a bare name where an object with one required field is expected."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


InitialMessages = Annotated[list[InitialMessage], AfterValidator(_not_too_much)]
Skills = list[Annotated[EnabledSkill, _named("skill")]]
Stores = list[Annotated[EnabledStore, _named("store")]]
Collections = list[Annotated[EnabledCollection, _named("collection")]]


class _Common(Input):
    description: str | None = None
    llm_provider_id: UUID | None = None
    model: str | None = Field(None, max_length=255)
    temperature: Temperature | None = 0.7
    max_tokens: Positive | None = None
    system_prompt: Prompt | None = None
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    initial_messages: InitialMessages | None = None
    enabled_functions: list[Reference] | None = None
    enabled_agents: list[Reference | AgentId] | None = None
    enabled_skills: Skills | None = None
    function_parameters: Parameters | None = None
    status_templates: StatusTemplates | None = None
    enabled_queries: list[Reference] | None = None
    query_parameters: Parameters | None = None
    enabled_stores: Stores | None = None
    enabled_collections: Collections | None = None
    enabled_components: list[Reference] | None = None
    enabled_connectors: list[EnabledConnector] | None = None
    hooks: Hooks | None = None
    icon: str | None = Field(None, max_length=2048)
    is_default: bool | None = False
    default_job_timeout: Positive | None = None
    default_keep_alive: bool | None = False
    system_tools: list[str | SystemTool] | None = None
    tool_approvals: ToolApprovals | None = None
    provider_overrides: JsonObject | None = Field(
        None, description="Parameters sent to the model's provider besides, such as `top_p`."
    )


class AgentCreate(_Common):
    """A new agent."""

    namespace: Namespace = "default"
    name: Name


class AgentUpdate(_Common, Change):
    """Changes; what is left out stays. Null empties a field that may be empty."""

    set_by_platform = Change.set_by_platform | {"icon_url"}

    namespace: Namespace | None = None
    name: Name | None = None
    temperature: Temperature | None = None
    is_default: bool | None = None
    default_keep_alive: bool | None = None
    is_active: bool | None = None


class AgentRead(Stamped, Output):
    """An agent."""

    user_id: UUID | None
    namespace: str
    name: str
    description: str | None
    llm_provider_id: UUID | None
    model: str | None
    temperature: float
    max_tokens: int | None
    system_prompt: str | None
    input_schema: JsonObject
    output_schema: JsonObject
    initial_messages: list[JsonObject] | None
    enabled_functions: list[str]
    enabled_agents: list[str]
    enabled_skills: list[JsonObject]
    function_parameters: JsonObject
    status_templates: JsonObject
    enabled_queries: list[str]
    query_parameters: JsonObject
    enabled_stores: list[JsonObject]
    enabled_collections: list[JsonObject]
    enabled_components: list[str]
    enabled_connectors: list[JsonObject]
    hooks: JsonObject | None
    icon: str | None
    icon_url: str | None
    is_active: bool
    is_default: bool
    default_job_timeout: int | None
    default_keep_alive: bool
    system_tools: list[Any]
    tool_approvals: JsonObject
    provider_overrides: JsonObject
