"""Answers that must match a schema: what providers are told, what is checked, what is asked again.

Pure. The stored schema is never changed; providers get a copy that their strict modes accept.
"""

import re
from collections.abc import Sequence
from typing import Final

import orjson

from sinas.chat.prompt import Line
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import compile_schema
from sinas.llm.base import ProviderType

# litellm makes a forced tool call of it for Anthropic, which tools of the agent's own would break:
# there the instruction in the system message must do.
_TAKES_FORMAT: Final[frozenset[ProviderType]] = frozenset({"openai", "mistral", "ollama"})
_FENCE: Final = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME_CHARS: Final = 64
_SUFFIX: Final = "_response"


def is_wanted(schema: JsonObject) -> bool:
    """Whether a schema asks for anything; an empty one leaves answers free."""
    return bool(schema.get("properties"))


def response_format(agent: str, schema: JsonObject, provider: ProviderType) -> JsonObject | None:
    """OpenAI's `response_format` for an agent's schema; None where it is not sent.

    Strict only where the schema allows it: OpenAI's strict mode wants every property required
    (https://platform.openai.com/docs/guides/structured-outputs).
    """
    if not is_wanted(schema) or provider not in _TAKES_FORMAT:
        return None
    name = _NAME.sub("_", agent.lower())[: _MAX_NAME_CHARS - len(_SUFFIX)] + _SUFFIX
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
    return found[1] if found else text.strip()


def faults(text: str, schema: JsonObject) -> list[str]:
    """Why an answer is not what the schema promises; empty when it is."""
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
    """A copy in which objects take no other properties, unless they say that they do."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copied: JsonObject = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        copied.setdefault("type", "object")
        copied.setdefault("additionalProperties", False)
    return copied


def _is_complete(schema: JsonValue) -> bool:
    """Whether all objects in it require all of their properties and take no others."""
    if isinstance(schema, list):
        return all(_is_complete(one) for one in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        names = set(required) if isinstance(required, list) else set()
        if names != set(properties) or schema.get("additionalProperties", False) is not False:
            return False
    return all(_is_complete(value) for value in schema.values())
