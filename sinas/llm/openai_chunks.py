"""OpenAI chat-completion JSON, whole or in chunks, to `Delta`. Pure.

Tolerant on purpose: servers that call themselves compatible leave out what they like. What is
missing or of the wrong type is treated as absent; only an error object is an error.
"""

from typing import Any, TypeAlias

import orjson

from sinas.llm.base import Delta, ToolCallDelta, Usage

# Foreign JSON, looked at one field at a time.
Foreign: TypeAlias = dict[str, Any]


def delta_of(chunk: Foreign) -> Delta | None:
    """The delta of a streamed chunk; None for chunks that say nothing (no choice, no usage)."""
    usage = chunk.get("usage")
    choices = chunk.get("choices")
    if not choices:
        return Delta(usage=usage_of(usage)) if usage else None
    choice = choices[0]
    return _delta(
        choice.get("delta") or choice.get("message") or {}, choice.get("finish_reason"), usage
    )


def delta_of_whole(completion: Foreign) -> Delta | None:
    """A completion that was not streamed, as one delta; None if it has no choice."""
    choices = completion.get("choices")
    if not choices:
        return None
    choice = choices[0]
    message = dict(choice.get("message") or {})
    # Here a call's position is its index: calls that share an id stay apart.
    message["tool_calls"] = [
        {**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())
    ]
    return _delta(message, choice.get("finish_reason"), completion.get("usage"))


def _delta(message: Foreign, finish_reason: str | None, usage: object) -> Delta:
    content = message.get("content") or message.get("refusal")
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if content is not None and not isinstance(content, str):
        content, thinking = _split_parts(content)
    calls = message.get("tool_calls")
    return Delta(
        content=content or None,
        tool_calls=tuple(map(_call, calls)) if calls else (),
        finish_reason=finish_reason or None,
        usage=usage_of(usage) if usage else None,
        thinking=thinking if isinstance(thinking, str) else None,
    )


def _call(call: Foreign) -> ToolCallDelta:
    function = call.get("function") or {}
    index = call.get("index")
    arguments = function.get("arguments")
    return ToolCallDelta(
        index=index if isinstance(index, int) else None,
        id=call.get("id") or None,
        name=function.get("name") or None,
        arguments=_arguments_text(arguments),
    )


def _arguments_text(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    # Some servers send the object itself.
    return _json_text(arguments) if arguments is not None else ""


def _json_text(value: object) -> str:
    """Compact JSON text."""
    return orjson.dumps(value).decode()


def _split_parts(parts: object) -> tuple[str | None, str | None]:
    """Text and thinking of a content list, as Mistral's reasoning models send it."""
    text: list[str] = []
    thinking: list[str] = []
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking":
            inner, _ = _split_parts(part.get("thinking"))
            thinking.append(inner or "")
        elif isinstance(part.get("text"), str):
            text.append(part["text"])
    return "".join(text) or None, "".join(thinking) or None


def usage_of(usage: object) -> Usage | None:
    """Token counts of an OpenAI usage object; None if it is none."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details") or {}
    read = details.get("cached_tokens") or usage.get("cache_read_input_tokens")
    written = details.get("cache_creation_tokens") or usage.get("cache_creation_input_tokens")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage.get("total_tokens")) or prompt + completion,
        cache_read_tokens=_count(read),
        cache_write_tokens=_count(written),
    )


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
