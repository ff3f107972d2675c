"""What a connector must satisfy to be saved: pure, the texts are for whoever sent it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sinas.egress.urls import EgressUrlError, parse_url
from sinas.errors import FieldError, InvalidInputError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.resources.connectors.paths import has_dot_segment, placeholders, template_problem

MAX_PARAMETERS_BYTES: Final = 262_144
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# What frames a message or names its receiver is the client's to write.
_RESERVED: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_header_name(name: str) -> str:
    """`name`, if it may be a header of a request.

    Raises:
        ValueError: It may not.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header")
    if name.lower() in _RESERVED:
        raise ValueError(f"the header {name!r} is written by the platform")
    return name


def check_header(name: str, value: str) -> None:
    """Make sure that a header can be sent.

    Raises:
        ValueError: It cannot.
    """
    check_header_name(name)
    if problem := header_problem(value):
        raise ValueError(f"{name} {problem}")


def header_problem(value: str) -> str | None:
    """Why a text cannot be a header's value."""
    return "has a line break or another control character" if _UNSENDABLE.search(value) else None


def check_address(url: str) -> str:
    """`url`, if a request could be made to it; whether it may be is seen then.

    Raises:
        ValueError: It could not.
    """
    try:
        parse_url(url)
    except EgressUrlError as error:
        raise ValueError(error.message) from None
    return url


def check_base_url(url: str) -> str:
    """`url`, if paths can be put behind it.

    Raises:
        ValueError: They cannot.
    """
    check_address(url)
    if any(mark in url for mark in "?#{}\\") or has_dot_segment(url):
        raise ValueError("must be an address and a path, without ? # { } \\ and without /../")
    return url


def check_path(path: str) -> str:
    """`path`, if it is a template of one.

    Raises:
        ValueError: It is none.
    """
    if problem := template_problem(path):
        raise ValueError(problem)
    return path


def check_operations(configs: list[JsonObject], known: Mapping[str, JsonObject]) -> None:
    """Make sure that operations can be offered and called; equal ones in `known` were checked.

    Raises:
        InvalidInputError: Two have one name, a schema is none, a binding leads nowhere.
    """
    seen: set[str] = set()
    for number, config in enumerate(configs):
        name = str(config["name"])
        if name in seen:
            raise _invalid(f"operations.{number}.name", f"'{name}' is there twice")
        seen.add(name)
        if known.get(name) != config:
            _check_operation(config, f"operations.{number}")


def _check_operation(config: Mapping[str, Any], where: str) -> None:
    schema: JsonObject = config["parameters"]
    field = f"{where}.parameters"
    if schema.get("type", "object") != "object":
        raise _invalid(field, 'must be of "type": "object": arguments have names')
    try:
        size = len(encode(schema))
        if size > MAX_PARAMETERS_BYTES:
            raise _invalid(field, f"has {size} bytes; the limit is {MAX_PARAMETERS_BYTES}")
        check_schema(schema)
    except NotJsonError as error:
        raise _invalid(field, str(error)) from None
    except BadSchemaError as error:
        path = ".".join((field, *map(str, error.path)))
        raise _invalid(path, f"is no valid JSON Schema: {error.message}") from None
    properties = schema.get("properties")
    declared = set(properties) if isinstance(properties, dict) else set()
    places: set[tuple[str, str]] = set()
    for argument, binding in config.get("bindings", {}).items():
        at = f"{where}.bindings.{argument}"
        if declared and argument not in declared:
            raise _invalid(at, f"there is no parameter '{argument}'")
        if binding["in"] == "path" and argument not in placeholders(config["path"]):
            raise _invalid(at, f"the path has no place for '{argument}'")
        place = (binding["in"], str(binding.get("name") or argument).lower())
        if place in places:
            raise _invalid(at, f"another parameter goes to {place[0]} '{place[1]}', too")
        places.add(place)
    body = config.get("body_argument")
    if body is not None and declared and body not in declared:
        raise _invalid(f"{where}.body_argument", f"there is no parameter '{body}'")


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", [FieldError(field, message)])
