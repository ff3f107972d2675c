"""Answers that must match a schema: what providers are told, what is checked, what is asked again.

The stored schema is never changed; providers get a copy that their strict modes accept.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from sinas.chat.prompt import Line
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import compile_schema
from sinas.llm.base import ProviderType

# litellm makes a forced tool call of it for Anthropic, which tools of the agent's own would break:
# there the instruction in the system message must do.
_TAKES_FORMAT: Final[frozenset[ProviderType]] = frozenset({"openai", "mistral", "ollama"})
_FENCE: Final = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
_NAME: Final = re.compile(r"[^a-z0-9]+")
_MAX_NAME_CHARS: Final = 64
_SUFFIX: Final = "_response"
# Above this, validating in a thread costs less than the pause it would be for other turns.
_INLINE_CHARS: Final = 32_768
# Where a schema holds schemas: by name, in a list, or one.
_NAMED: Final = frozenset({"properties", "$defs", "definitions"})
_LISTED: Final = frozenset({"anyOf", "prefixItems"})
_SINGLE: Final = frozenset({"items", "additionalProperties"})
# What narrows an object by parts that must not be closed one by one; no strict mode takes it.
# fmt: off
_COMBINING: Final = frozenset({
    "allOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired",
    "patternProperties", "propertyNames", "unevaluatedProperties", "$dynamicRef",
})
# fmt: on


def is_wanted(schema: JsonObject) -> bool:
    """Whether an agent's schema asks for anything; one without properties leaves answers free."""
    return bool(schema.get("properties"))


def takes_format(provider: ProviderType) -> bool:
    """Whether a provider is told the form of an answer besides the instruction."""
    return provider in _TAKES_FORMAT


def response_format(agent: str, schema: JsonObject, provider: ProviderType) -> JsonObject | None:
    """OpenAI's `response_format` for an agent's schema; None where it is not sent.

    Strict only where the schema allows it: OpenAI's strict mode wants every property required
    (https://platform.openai.com/docs/guides/structured-outputs).
    """
    if not is_wanted(schema) or not takes_format(provider):
        return None
    name = _NAME.sub("_", agent.lower()).strip("_")[: _MAX_NAME_CHARS - len(_SUFFIX)] + _SUFFIX
    return {
        "type": "json_schema",
        "json_schema": {
            "name": name,
            "strict": _is_complete(schema),
            "schema": _closed(schema),
        },
    }


def content_of(text: str) -> str:
    """The JSON text of an answer: without the fence that models like to put around it."""
    found = _FENCE.match(text)
    return (found[1] if found else text).strip()


async def faults(text: str, schema: JsonObject) -> list[str]:
    """Why an answer is not what the schema promises; empty when it is."""
    if len(text) > _INLINE_CHARS or compile_schema(schema).is_costly:
        return await asyncio.to_thread(_faults, text, schema)
    return _faults(text, schema)


def _faults(text: str, schema: JsonObject) -> list[str]:
    try:
        value: JsonValue = orjson.loads(content_of(text))
    except orjson.JSONDecodeError as error:
        return [f"it is no JSON: {error}"]
    return [
        f"{'.'.join(str(part) for part in found.path) or 'the whole'}: {found.message}"
        for found in compile_schema(schema).violations(value)
    ]


def repair(text: str, found: Sequence[str]) -> list[Line]:
    """What is said to the model after a wrong answer; none of it is stored."""
    wrong = "\n".join(f"- {fault}" for fault in found)
    return [
        Line(role="assistant", content=text or "(no text)"),
        Line(
            role="user",
            content="That answer does not match the schema:\n"
            f"{wrong}\n\nAnswer again, only with JSON that matches it.",
        ),
    ]


def _closed(schema: JsonValue) -> JsonValue:
    """A copy in which objects take no other properties, unless they say what else they take."""
    if not isinstance(schema, dict):
        return schema
    copied: JsonObject = {}
    for key, value in schema.items():
        match value:
            case dict() if key in _NAMED:
                copied[key] = {name: _closed(part) for name, part in value.items()}
            case list() if key in _LISTED:
                copied[key] = [_closed(part) for part in value]
            case dict() if key in _SINGLE:
                copied[key] = _closed(value)
            case _:
                copied[key] = value
    if isinstance(schema.get("properties"), dict) and not _COMBINING & schema.keys():
        copied.setdefault("type", "object")
        copied.setdefault("additionalProperties", False)
    return copied


def _is_complete(schema: JsonObject) -> bool:
    """Whether a strict mode takes it: objects require all they name and take nothing else."""
    if _COMBINING & schema.keys():
        return False
    properties = schema.get("properties")
    if isinstance(properties, dict) or _is_object(schema.get("type")):
        names = properties.keys() if isinstance(properties, dict) else None
        required = schema.get("required", [])
        if names is None or not isinstance(required, list) or set(required) != names:
            return False
        if schema.get("additionalProperties", False) is not False:
            return False
    return all(_is_complete(part) for part in _parts(schema))


def _is_object(named: Any) -> bool:
    return named == "object" or (isinstance(named, list) and "object" in named)


def _parts(schema: JsonObject) -> Iterator[JsonObject]:
    """The schemas inside of one."""
    for key, value in schema.items():
        inner: Any = ()
        if key in _NAMED and isinstance(value, dict):
            inner = value.values()
        elif key in _LISTED and isinstance(value, list):
            inner = value
        elif key in _SINGLE:
            inner = (value,)
        yield from (part for part in inner if isinstance(part, dict))
