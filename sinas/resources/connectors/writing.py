"""How values of arguments are written in queries, headers, cookies, paths and forms. Pure.

After OpenAPI's table of styles. What is written for a query or a form is percent-encoded already.
"""

import json
from collections.abc import Iterator
from urllib.parse import quote

from sinas.kit.json_types import JsonObject, JsonValue

Pair = tuple[str, str]
_DELIMITERS = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}


def plain(value: JsonValue) -> str:
    """One value as text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: JsonValue) -> str:
    """`value` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def simple(value: JsonValue, *, explode: bool = False) -> str:
    """For paths and headers: lists and objects with commas."""
    match value:
        case list():
            return ",".join(plain(item) for item in value)
        case dict():
            mark = "=" if explode else ","
            return ",".join(f"{key}{mark}{plain(item)}" for key, item in value.items())
        case _:
            return plain(value)


def query(name: str, value: JsonValue, style: str, *, explode: bool) -> list[Pair]:
    """For queries and forms: `name=value` as often as the style wants it."""
    match value:
        case _ if style == "json":
            pairs = [(name, _encoded(json_text(value)))]
        case dict() | list() if style == "deepObject":
            pairs = [(key, _encoded(text)) for key, text in _deep(name, value)]
        case list() if explode:
            pairs = [(name, _encoded(plain(item))) for item in value]
        case list():
            mark = _DELIMITERS.get(style, ",")
            pairs = [(name, mark.join(_encoded(plain(item)) for item in value))]
        case dict() if explode:
            pairs = [(key, _encoded(plain(item))) for key, item in value.items()]
        case dict():
            parts = (part for key, item in value.items() for part in (key, plain(item)))
            pairs = [(name, ",".join(_encoded(part) for part in parts))]
        case _:
            pairs = [(name, _encoded(plain(value)))]
    return [(_encoded(key), text) for key, text in pairs]


def form(name: str, value: JsonValue, style: str | None, *, explode: bool) -> list[Pair]:
    """For a member of a form: as a query, but objects keep their name in front."""
    if style is None and (isinstance(value, dict) or _has_objects(value)):
        style = "deepObject"
    return query(name, value, style or "form", explode=explode)


def cookie(name: str, value: JsonValue) -> str:
    """One cookie of a request."""
    return f"{_encoded(name)}={_encoded(simple(value))}"


def _deep(name: str, value: JsonValue) -> Iterator[Pair]:
    items: JsonObject
    match value:
        case dict():
            items = value
        case list():
            items = {str(place): item for place, item in enumerate(value)}
        case _:
            yield name, plain(value)
            return
    for key, item in items.items():
        yield from _deep(f"{name}[{key}]", item)


def _has_objects(value: JsonValue) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _encoded(text: str) -> str:
    return quote(text, safe="")
