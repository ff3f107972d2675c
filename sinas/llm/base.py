"""What a model is asked and what it streams back, whichever client carries it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, get_args

from sinas.kit.json_types import JsonObject

ProviderType: TypeAlias = Literal["openai", "anthropic", "mistral", "ollama"]
PROVIDER_TYPES: tuple[ProviderType, ...] = get_args(ProviderType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a model is served.

    Attributes:
        name: As the operator called it; appears in error messages.
        endpoint: Base URL of the API, such as `http://host:8080/v1`; None is the type's own.
        api_key: None sends no credentials. Never in a repr, log or error message.
    """

    name: str
    type: ProviderType
    endpoint: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model.

    Attributes:
        messages: OpenAI chat format, contents already converted (`sinas.llm.convert`).
        tools: OpenAI function format; `tool_choice` is `auto` whenever there are any.
        extra: Free parameters of the provider (`top_p`, `seed`, …). They never replace what
            the other fields say.
        timeout_seconds: Longest silence, also before the first byte. A slow but steady
            answer may take as long as it likes.
        max_retries: How often it is asked again after a failure that may pass, as long as
            nothing was answered.
        retry_seconds: No attempt begins later than this after the first one.
    """

    provider: Provider
    model: str
    messages: list[JsonObject]
    tools: list[JsonObject] = field(default_factory=list)
    temperature: float | None = None
    max_tokens: int | None = None
    response_format: JsonObject | None = None
    extra: JsonObject = field(default_factory=dict)
    timeout_seconds: float = 120.0
    max_retries: int = 0
    retry_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call as the provider sent it; `ToolCallAssembler` makes sense of it.

    Attributes:
        index: Position of the call in the answer; None where the provider gave none.
        arguments: The next piece of the JSON text, `""` if this delta has none.
    """

    index: int | None
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. The prompt's count includes those read from a cache."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """One chunk of an answer. All fields may be empty at once: the model has only started.

    Attributes:
        finish_reason: `stop`, `tool_calls`, `length`, `content_filter` or the provider's own
            word, in at most one delta of an answer; an answer may end without.
        usage: In a delta of its own after the finish, where the provider counts.
        thinking: Reasoning text that is not part of the answer.
    """

    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    thinking: str | None = None


class LanguageModel(Protocol):
    """A way to reach models. One object serves all requests of a process."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Ask, and yield the answer as it comes.

        Closing the generator (`aclosing`), or cancelling its task, closes the connection to
        the provider; merely dropping it leaves that to the garbage collector.
        An answer without text and without calls is not an error here.

        Raises:
            UpstreamError: One sentence that names provider, model and what happened; its
                `status` is the provider's HTTP status where there was one. Deltas already
                yielded stay valid.
        """
        ...

    async def aclose(self) -> None:
        """Close idle connections. No stream may be running."""
        ...
