"""OpenAI's request and answers, as far as this adapter knows them.

Requests to a provider's model are passed on without being checked against these; requests to an
agent are.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from sinas.kit.json_types import JsonObject
from sinas.resources.chats.schemas import PendingApproval, PendingInput


class Lenient(BaseModel):
    """Fields that are not named here are ignored, as new ones come with every SDK."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Lenient):
    """Text."""

    type: Literal["text"]
    text: str


class RefusalPart(Lenient):
    """Why a model refused to answer."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Lenient):
    """An image by http(s) URL or data URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Lenient):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Lenient):
    """Audio as base64."""

    data: str
    format: Literal["wav", "mp3", "m4a", "ogg"]


class AudioPart(Lenient):
    """Audio."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class InputFile(Lenient):
    """A file as base64 or data URL, or by the provider's id."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Lenient):
    """A file."""

    type: Literal["file"]
    file: InputFile


UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
UserParts = Annotated[list[UserPart], Field(min_length=1)]
Texts = list[TextPart]


class InstructionMessage(Lenient):
    """Instructions: `developer` is the newer word for `system`."""

    role: Literal["system", "developer"]
    content: str | Texts
    name: str | None = None


class UserMessage(Lenient):
    """What the user says."""

    role: Literal["user"]
    content: str | UserParts
    name: str | None = None


class CalledFunction(Lenient):
    """A function's name and its arguments as JSON text."""

    name: str
    arguments: str


class MessageToolCall(Lenient):
    """A tool call a model made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Lenient):
    """What the model said."""

    role: Literal["assistant"]
    content: str | list[AssistantPart] | None = None
    tool_calls: list[MessageToolCall] | None = None
    name: str | None = None


class ToolMessage(Lenient):
    """The result of a tool call."""

    role: Literal["tool"]
    content: str | Texts
    tool_call_id: str


RequestMessage = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]


class StreamOptions(Lenient):
    """What a stream says besides the answer."""

    include_usage: bool | None = None


class JsonSchemaFormat(Lenient):
    """The schema of the answer."""

    name: str | None = None
    description: str | None = None
    json_schema: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class SinasOptions(Lenient):
    """An extension, for agents."""

    input: JsonObject | None = Field(
        None, description="What a new chat fills the agent's templates with."
    )


class ChatCompletionRequest(BaseModel):
    """A conversation to continue. Other parameters of OpenAI's API may be given too.

    A provider's model gets all of it. For an agent, see the reference: some parameters are not
    possible, as its tools and its limits are its own.
    """

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(
        None,
        description="`agent:namespace/name`, or `provider/model`; the default agent if left out.",
    )
    messages: Annotated[list[RequestMessage], Field(min_length=1, max_length=10_000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    tools: list[JsonObject] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="With an agent: the user's running conversation is continued."
    )
    metadata: dict[str, str] | None = Field(
        None, description="With an agent, `session` names a conversation to continue."
    )
    sinas: SinasOptions | None = None


class CompletionMessage(BaseModel):
    """The answer. A provider's model may add fields."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[MessageToolCall] | None = None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: CompletionMessage
    logprobs: JsonObject | None
    finish_reason: str


class PromptTokensDetails(BaseModel):
    """Of the prompt's tokens."""

    cached_tokens: int


class CompletionUsage(BaseModel):
    """Tokens, of all model calls of the turn."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class SinasState(BaseModel):
    """How an agent's turn stands: an extension, only with agents.

    `input_required` and `in_progress` wait for people: the questions and the tool calls to decide
    on are listed. `channel_id` can be followed then, at `/chats/{chat_id}/stream/{channel_id}`.
    """

    status: Literal["completed", "input_required", "in_progress"]
    chat_id: UUID
    channel_id: str | None
    pending_approvals: list[PendingApproval]
    pending_inputs: list[PendingInput]


class ChatCompletion(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[Choice]
    usage: CompletionUsage | None
    sinas: SinasState | None = None


class ChunkChoice(BaseModel):
    """A piece of one answer."""

    index: int
    delta: JsonObject
    logprobs: JsonObject | None = None
    finish_reason: str | None


class ChatCompletionChunk(BaseModel):
    """The data of one server-sent event. The stream ends with `data: [DONE]`."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None
    sinas: SinasState | None = None


class Model(BaseModel):
    """Something that answers: an agent, or a provider's model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970.")
    owned_by: str = Field(description="`sinas-agent`, or `sinas-provider-{name}`.")


class ModelList(BaseModel):
    """What the caller may use."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every error."""

    error: ErrorBody


def error_responses() -> dict[int | str, dict[str, Any]]:
    """What every operation may answer besides success."""
    about = {
        400: "A parameter is wrong, or not possible with this model",
        401: "No API key or token, or none that is valid now",
        403: "Not granted",
        404: "No such model, or none that you may use",
        409: "The state of a chat or session does not allow it",
        413: "The request is too large",
        422: "The provider does not take the request",
        429: "Too many requests",
        500: "A fault of Sinas",
        502: "The provider failed",
        503: "A part of the platform, or the provider, is down or full",
        504: "The turn took too long",
    }
    return {status: {"model": ErrorEnvelope, "description": text} for status, text in about.items()}
