"""What a model is sent: the one builder for every round of a turn. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from sinas.errors import InvalidInputError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.templates import render

_USER: Final = re.compile(r"\{[{%][^}]*\buser\b")
_KEPT_PREVIEW_CHARS: Final = 1000
INTERRUPTED: Final = "[Error: function call was interrupted or timed out]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """The parts of an agent that shape its system message.

    Attributes:
        output_schema: What the answer must match; empty for anything.
        user: Whom the turn acts for, as `user` in the prompt's template.
        sections: What providers add, each a text of its own.
    """

    agent: str
    system_prompt: str | None
    output_schema: JsonObject
    agent_input: JsonObject
    user: JsonObject = field(default_factory=dict)
    sections: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image to show to the model; `url` is a data URL."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One stored message, without what only clients need.

    Attributes:
        pictures: What a tool result has to show besides its text.
    """

    role: str
    content: str | None
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    pictures: tuple[Picture, ...] = ()


def build(
    instructions: Instructions, history: Sequence[Line], window: int, inline: int = 5
) -> list[JsonObject]:
    """System message and history, in OpenAI's format, at most `window` messages of history.

    Pair-complete: every call of an assistant message is followed at once by exactly one
    result, in the calls' order, wherever the result was stored; a missing one is reported as
    interrupted. Results whose call is outside the window are left out, and a window never
    starts with results; what the user said last is sent however much followed. Of results that
    the model has answered to already, only the newest `inline` stay whole: older long ones become
    a line that says how to read them again.

    Raises:
        InvalidInputError: The system prompt's template fails for this chat's input.
    """
    messages: list[JsonObject] = []
    if system := _system(instructions):
        messages.append({"role": "system", "content": system})
    return messages + _conversation(_shortened(_with_question_last(history), inline), window)


def _with_question_last(history: Sequence[Line]) -> Sequence[Line]:
    """History that ends with what is to be answered.

    A message that came in while the model answered another one is stored before that answer.
    Providers refuse to be asked nothing, or take the last answer for one to be continued.
    """
    if not history or history[-1].role != "assistant" or history[-1].tool_calls:
        return history
    last = next((n for n in reversed(range(len(history))) if history[n].role == "user"), None)
    if last is None:
        return history
    return [*history[:last], *history[last + 1 :], history[last]]


def _shortened(history: Sequence[Line], inline: int) -> list[Line]:
    """History whose older tool results are references."""
    lines = list(history)
    seen_by_model = next(
        (n for n in reversed(range(len(lines))) if lines[n].role == "assistant"), 0
    )
    left = inline
    for position in reversed(range(len(lines))):
        line = lines[position]
        if line.role != "tool":
            continue
        left -= 1
        if left >= 0 or position >= seen_by_model:
            continue
        reference = (
            f"[Result of {line.name}, shown before. "
            f'To read it again: retrieve_tool_result("{line.tool_call_id}")]'
        )
        if len(line.content or "") > len(reference):
            lines[position] = replace(line, content=reference, pictures=())
    return lines


def _system(instructions: Instructions) -> str:
    parts = []
    if instructions.system_prompt:
        parts.append(_rendered(instructions, instructions.system_prompt))
    parts += instructions.sections
    if instructions.output_schema:
        schema = json.dumps(instructions.output_schema, indent=2)
        parts.append(
            "Answer only with JSON that matches this schema, without any other text:\n"
            f"```json\n{schema}\n```"
        )
    return "\n\n".join(parts)


def _rendered(instructions: Instructions, prompt: str) -> str:
    # Without anything to fill in, a prompt may hold what only looks like a template.
    if not instructions.agent_input and _USER.search(prompt) is None:
        return prompt
    try:
        return render(prompt, {**instructions.agent_input, "user": instructions.user})
    except InvalidInputError as error:
        raise InvalidInputError(
            f"The system prompt of agent '{instructions.agent}' cannot be rendered: {error.message}"
        ) from error


def _conversation(history: Sequence[Line], window: int) -> list[JsonObject]:
    kept: list[list[JsonObject]] = []
    size = 0
    for line, results in reversed(_paired(history)):
        if line.role == "assistant" and not (line.content or line.tool_calls):
            continue  # an empty answer: providers refuse it in a history
        group = _group(line, results)
        if kept and size + len(group) > window:
            break
        kept.append(group)
        size += len(group)
    if all(group[0]["role"] != "user" for group in kept):
        question = next((line for line in reversed(history) if line.role == "user"), None)
        kept += [] if question is None else [_group(question, {})]
    return [message for group in reversed(kept) for message in group]


def _paired(history: Sequence[Line]) -> list[tuple[Line, dict[str, Line]]]:
    """What was said, each with the results of its calls by id.

    A client's own transcript may use an id again: a result is of the newest call before it.
    """
    paired: list[tuple[Line, dict[str, Line]]] = []
    newest: dict[str, dict[str, Line]] = {}
    for line in history:
        if line.role == "tool":
            call_id = line.tool_call_id or ""
            newest.get(call_id, {})[call_id] = line
            continue
        results: dict[str, Line] = {}
        paired.append((line, results))
        newest |= {call["id"]: results for call in line.tool_calls or ()}
    return paired


def _group(line: Line, results: Mapping[str, Line]) -> list[JsonObject]:
    """A message and the results of its calls."""
    message: JsonObject = {"role": line.role, "content": _content(line)}
    if not line.tool_calls:
        return [message]
    message["tool_calls"] = [
        {"id": call["id"], "type": "function", "function": _sendable(call["function"])}
        for call in line.tool_calls
    ]
    group = [message]
    pictures: list[Picture] = []
    for call in line.tool_calls:
        result = results.get(call["id"])
        pictures += result.pictures if result is not None else ()
        content = result.content if result is not None else None
        group.append(
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "name": call["function"]["name"],
                "content": content if content is not None else INTERRUPTED,
            }
        )
    if pictures:
        group.append({"role": "user", "content": _parts(pictures)})
    return group


def _parts(pictures: Sequence[Picture]) -> JsonValue:
    """A message of their own for pictures: providers take none in a tool result."""
    parts: list[JsonValue] = []
    for picture in pictures:
        parts.append({"type": "text", "text": f"[The code wrote the image '{picture.name}']"})
        parts.append({"type": "image", "image": picture.url})
    return parts


def _sendable(function: Mapping[str, Any]) -> JsonObject:
    """A call's name and arguments. Broken arguments go as `{}`: many servers parse them.

    The model finds what it wrote in the call's result.
    """
    arguments = function["arguments"]
    try:
        is_object = isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        is_object = False
    return {"name": function["name"], "arguments": arguments if is_object else "{}"}


def _content(line: Line) -> JsonValue:
    """Text, or the parts of a multimodal message."""
    if line.role == "user" and line.content and line.content.startswith("["):
        try:
            parts: JsonValue = orjson.loads(line.content)
        except orjson.JSONDecodeError:
            return line.content
        if isinstance(parts, list) and all(isinstance(p, dict) and "type" in p for p in parts):
            return parts
    return line.content


def result_text(value: JsonValue, limit: int) -> str:
    """A tool result as the model gets it: JSON text of at most about `limit` bytes.

    What is too long is shortened so that it stays valid JSON and says so: lists keep their
    first items, anything else becomes a preview.
    """
    text = _dumps(value)
    if len(text.encode()) <= limit:
        return text
    if isinstance(value, list):
        kept = _leading_items(value, limit)
        return _dumps(
            {"_truncated": True, "returned": len(kept), "total": len(value), "items": kept}
        )
    raw = value if isinstance(value, str) else text
    preview = raw.encode()[: limit // 2].decode(errors="ignore")
    return _dumps(
        {"_truncated": True, "returned": len(preview), "total": len(raw), "preview": preview}
    )


def kept_result(value: JsonValue, limit: int) -> JsonValue:
    """A tool result as it is stored for retrieval: whole up to `limit` bytes of JSON."""
    text = _dumps(value)
    size = len(text.encode())
    if size <= limit:
        return value
    return {
        "_truncated": True,
        "_original_size": size,
        "_preview": text[:_KEPT_PREVIEW_CHARS],
    }


def _leading_items(items: list[JsonValue], limit: int) -> list[JsonValue]:
    kept: list[JsonValue] = []
    size = 128
    for item in items:
        size += len(_dumps(item).encode()) + 2
        if size > limit:
            break
        kept.append(item)
    return kept


def _dumps(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
