"""Messages as the GenAI conventions write them: pure, valid JSON, and not too long.

Shapes: https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai
(gen-ai-input-messages.json, gen-ai-output-messages.json).
"""

import json
from collections.abc import Sequence

import orjson

from sinas.kit.json_types import JsonObject, JsonValue

# Characters of one attribute.
MAX_CHARS = 10_000
_LEFT_OUT = "left out: the texts are longer than a span may be"


def messages_text(messages: Sequence[JsonObject]) -> str:
    """Messages of the OpenAI chat format; the newest ones where not all of them fit.

    Pictures, sound and documents are named and left out.
    """
    kept: list[str] = []
    room = MAX_CHARS - len(_note(len(messages))) - 2
    for message in reversed(messages):
        text = _dumps(_message(message, MAX_CHARS))
        if len(text) + 1 > room:
            if not kept:
                kept.append(_cut(message, room))
            break
        kept.append(text)
        room -= len(text) + 1
    if len(kept) < len(messages):
        kept.append(_note(len(messages) - len(kept)))
    return f"[{','.join(reversed(kept))}]"


def _note(count: int) -> str:
    part: JsonObject = {"type": "text", "content": f"({count} earlier messages {_LEFT_OUT})"}
    return _dumps({"role": "system", "parts": [part]})


def _cut(message: JsonObject, room: int) -> str:
    most = room
    while len(text := _dumps(_message(message, most))) > room and most:
        most //= 2
    return text if len(text) <= room else _note(1)


def _message(message: JsonObject, most: int) -> JsonObject:
    """One message; each of its texts has at most `most` characters."""
    role = message.get("role")
    parts: list[JsonValue]
    if role == "tool":
        response = _texts(message.get("content"))[:most]
        call_id = message.get("tool_call_id")
        parts = [{"type": "tool_call_response", "id": call_id, "response": response}]
    else:
        parts = [*_parts(message.get("content"), most)]
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            parts += [_call(call, most) for call in calls if isinstance(call, dict)]
    written: JsonObject = {"role": role, "parts": parts}
    if reason := message.get("finish_reason"):
        written["finish_reason"] = reason
    return written


def _parts(content: JsonValue, most: int) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"type": "text", "content": content[:most]}] if content else []
    found: list[JsonObject] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            text = part.get("text")
            said: JsonObject = {"content": text[:most]} if isinstance(text, str) else {}
            found.append({"type": part.get("type"), **said})
    return found


def _texts(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("content", "")) for part in _parts(content, MAX_CHARS))


def _call(call: JsonObject, most: int) -> JsonObject:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": str(function.get("arguments") or "")[:most],
    }


def _dumps(value: JsonObject) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair, which the standard library escapes
        return json.dumps(value)
