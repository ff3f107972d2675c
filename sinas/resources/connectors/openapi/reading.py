"""From the text of a document to its JSON. Pure."""

import math
import re
from typing import Any, Final

import orjson
import yaml

from sinas.kit.json_types import JsonObject, JsonValue

# Of a document with its aliases written out.
_MAX_VALUES: Final = 2_000_000
_MAX_DEPTH: Final = 200


class DocumentError(Exception):
    """A text that is no document operations can be taken from. The message is for its sender."""


class _Loader(yaml.CSafeLoader):
    """YAML as JSON knows it: no dates, no sets, and only true and false are booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _first in "tTfF":
    _Loader.yaml_implicit_resolvers.setdefault(_first, []).append(
        (
            "tag:yaml.org,2002:bool",
            re.compile(r"^(true|True|TRUE|false|False|FALSE)$"),
        )
    )


def read(text: str) -> JsonObject:
    """The document of a text in JSON or YAML.

    Raises:
        DocumentError: It is neither, is not an object, or grows without measure.
    """
    document = _json(text) if text.lstrip()[:1] == "{" else _yaml(text)
    if not isinstance(document, dict):
        raise DocumentError("The document is no object; is it an OpenAPI document?")
    return document


def _json(text: str) -> JsonValue:
    try:
        found: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # YAML's flow style begins with a brace, too.
        try:
            return _yaml(text)
        except DocumentError:
            raise DocumentError(f"The document is no valid JSON: {error}") from None
    return found


def _yaml(text: str) -> JsonValue:
    try:
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise DocumentError(f"The document is no valid YAML{where}: {problem}") from None
    except (RecursionError, ValueError) as error:
        raise DocumentError(f"The document cannot be read: {error}") from None
    return _Copy().of(found, 0)


class _Copy:
    """What YAML made, as JSON. Aliases are written out, which may grow beyond measure."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def of(self, value: Any, depth: int) -> JsonValue:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise DocumentError("The document is too large or too deep once its aliases are used.")
        match value:
            case dict():
                return {_key(key): self.of(item, depth + 1) for key, item in value.items()}
            case list() | tuple():
                return [self.of(item, depth + 1) for item in value]
            case float() if not math.isfinite(value):
                return str(value)
            case str() | bool() | int() | float() | None:
                return value
            case _:
                return str(value)


def _key(key: Any) -> str:
    # Statuses are written as numbers.
    return key if isinstance(key, str) else str(key).lower() if key is None else str(key)
