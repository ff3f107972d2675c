"""From OpenAI's request to what an agent is told. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from pydantic import ValidationError

from sinas.adapters.openai.errors import BadParameterError, UnsupportedParameterError
from sinas.adapters.openai.schemas import (
    AssistantMessage,
    AudioPart,
    ChatCompletionRequest,
    FilePart,
    ImagePart,
    InstructionMessage,
    RequestMessage,
    ResponseFormat,
    TextPart,
    ToolMessage,
    UserMessage,
    UserPart,
)
from sinas.chat.overrides import Overrides
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.resources.chats import schemas as ours
from sinas.resources.chats.service import stored_content
from sinas.resources.chats.transcripts import Said, Transcript

_ALTERNATIVES: Final = frozenset(
    {
        *("system", "developer", "user", "assistant", "tool"),
        *("text", "refusal", "image_url", "input_audio", "file"),
    }
)
# Sent on as they are; a provider that lacks one goes without it.
_FREE: Final = (
    *("top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
    "reasoning_effort",
)
_TOOLS: Final = "an agent's tools are its own; a provider's model takes tools of yours"


def request_of(body: JsonObject) -> ChatCompletionRequest:
    """The request, checked.

    Raises:
        BadParameterError: Names the first parameter that is wrong.
    """
    try:
        return ChatCompletionRequest.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Of alternatives that were tried, the one that went deepest is the one that was meant.
        same = [each for each in found if each["loc"][:2] == found[0]["loc"][:2]]
        meant = max(same, key=lambda each: len(each["loc"]))
        raise BadParameterError(_param(meant["loc"]), str(meant["msg"])) from error


def _param(location: Sequence[int | str]) -> str:
    """`messages[0].content` of a location among alternatives."""
    param = ""
    after_index = False
    for part in location:
        is_tag = after_index and part in _ALTERNATIVES
        after_index = isinstance(part, int)
        if isinstance(part, int):
            param += f"[{part}]"
        elif part.isidentifier() and part != "str" and not is_tag:
            # Others say which alternative was tried, not where.
            param += f".{part}" if param else part
    return param or "body"


def transcript_of(request: ChatCompletionRequest) -> Transcript:
    """What the agent is to answer, and what was said before.

    Raises:
        BadParameterError: The conversation does not end with something to answer, or a schema
            is none.
        UnsupportedParameterError: The request wants what agents cannot do.
    """
    _refuse_unsupported(request)
    spoken = [m for m in request.messages if not isinstance(m, InstructionMessage)]
    last = spoken[-1] if spoken else None
    if not isinstance(last, UserMessage):
        raise BadParameterError(
            "messages", "an agent answers a user: the last message must have the role 'user'"
        )
    message = _content(last)
    if not message:
        raise BadParameterError("messages", "the last message is empty")
    return Transcript(
        message=message,
        history=tuple(_history(spoken[:-1])),
        overrides=_overrides(request),
        agent_input=request.sinas.input if request.sinas else None,
    )


def _refuse_unsupported(request: ChatCompletionRequest) -> None:
    extra = request.model_extra or {}
    wanted: dict[str, tuple[bool, str]] = {
        "tools": (bool(request.tools), _TOOLS),
        "tool_choice": (request.tool_choice not in (None, "auto", "none"), _TOOLS),
        "functions": (bool(extra.get("functions")), _TOOLS),
        "function_call": (extra.get("function_call") not in (None, "auto", "none"), _TOOLS),
        "n": (request.n not in (None, 1), "an agent gives one answer"),
        "logprobs": (bool(request.logprobs), "agents do not tell probabilities"),
        "top_logprobs": (bool(request.top_logprobs), "agents do not tell probabilities"),
        "modalities": (extra.get("modalities") not in (None, ["text"]), "agents answer in text"),
        "audio": (extra.get("audio") is not None, "agents answer in text"),
    }
    for param, (is_wanted, why) in wanted.items():
        if is_wanted:
            raise UnsupportedParameterError(param, f"not possible with an agent: {why}")


def _overrides(request: ChatCompletionRequest) -> Overrides:
    instructions = [
        text
        for message in request.messages
        if isinstance(message, InstructionMessage) and (text := _text(message.content))
    ]
    extra: JsonObject = {
        name: value for name in _FREE if (value := getattr(request, name)) is not None
    }
    return Overrides(
        instructions=tuple(instructions),
        temperature=request.temperature,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        output_schema=_schema(request.response_format),
        response_format=_format(request.response_format),
        extra=extra,
    )


def _schema(wanted: ResponseFormat | None) -> JsonObject | None:
    """JSON Schema of the answer; None where any text will do."""
    match wanted:
        case ResponseFormat(type="json_object"):
            return {"type": "object"}
        case ResponseFormat(type="json_schema", json_schema=given):
            schema = given.json_schema if given else None
            param = "response_format.json_schema.schema"
            if not schema:
                raise BadParameterError(param, "a JSON Schema is needed here")
            try:
                check_schema(schema)
            except BadSchemaError as error:
                where = ".".join([param, *map(str, error.path)])
                raise BadParameterError(where, error.message) from error
            return schema
    return None


def _format(wanted: ResponseFormat | None) -> JsonObject | None:
    if wanted is None or wanted.type == "text":
        return None
    return wanted.model_dump(by_alias=True, exclude_none=True)


def _history(messages: Sequence[RequestMessage]) -> Iterator[Said]:
    # Ids get a prefix: those of the agent's own calls must not meet them in one conversation.
    names: dict[str, str] = {}
    for message in messages:
        match message:
            case UserMessage():
                yield Said(role="user", content=stored_content(_content(message)))
            case AssistantMessage():
                calls: list[JsonObject] = []
                for call in message.tool_calls or ():
                    names[call.id] = call.function.name
                    function: JsonValue = call.function.model_dump()
                    calls.append(
                        {"id": f"sent_{call.id}", "type": "function", "function": function}
                    )
                content = _assistant_text(message)
                yield Said(role="assistant", content=content, tool_calls=calls or None)
            case ToolMessage():
                yield Said(
                    role="tool",
                    content=_text(message.content),
                    tool_call_id=f"sent_{message.tool_call_id}",
                    name=names.get(message.tool_call_id),
                )
            case InstructionMessage():
                continue
            case _:
                assert_never(message)


def _text(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _assistant_text(message: AssistantMessage) -> str | None:
    if not isinstance(message.content, list):
        return message.content
    return "\n".join(
        part.text if isinstance(part, TextPart) else part.refusal for part in message.content
    )


def _content(message: UserMessage) -> ours.Content:
    """Text, or parts in the platform's own form; parts of only text are text."""
    if isinstance(message.content, str):
        return message.content
    if all(isinstance(part, TextPart) for part in message.content):
        return "\n".join(part.text for part in message.content if isinstance(part, TextPart))
    return [_part(part) for part in message.content]


def _part(part: UserPart) -> ours.Part:
    match part:
        case TextPart():
            return ours.TextPart(type="text", text=part.text)
        case ImagePart(image_url=image):
            return ours.ImagePart(type="image", image=image.url, detail=image.detail)
        case AudioPart(input_audio=audio):
            return ours.AudioPart(type="audio", data=audio.data, format=audio.format)
        case FilePart():
            return _file(part)
        case _:
            assert_never(part)


def _file(part: FilePart) -> ours.FilePart:
    data, mime_type = part.file.file_data, None
    if data is not None and data.startswith("data:"):
        head, _, data = data.partition(",")
        mime_type = head.removeprefix("data:").partition(";")[0] or None
    return ours.FilePart(
        type="file",
        file_data=data,
        file_id=part.file.file_id,
        filename=part.file.filename,
        mime_type=mime_type,
    )


def session_of(request: ChatCompletionRequest, user_id: object) -> str | None:
    """The key of the session a request names, None for none.

    `metadata.session` is a session key as `invoke` takes it. `user` is a session of its own for
    each caller: other people's keys may send the same word.

    Raises:
        BadParameterError: The session's name is empty or too long.
    """
    named = (request.metadata or {}).get("session")
    if named is not None:
        if not 1 <= len(named) <= 255:
            raise BadParameterError("metadata.session", "1 to 255 characters are possible")
        return named
    return f"openai:{user_id}:{request.user}" if request.user else None
