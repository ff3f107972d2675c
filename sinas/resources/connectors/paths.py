"""Paths of operations: templates whose arguments can never change where a request goes. Pure."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from sinas.errors import BadRequestError, FieldError

# `{{ name }}` is what connectors have always had, `{name}` what OpenAPI has.
_PLACE: Final = re.compile(r"\{\{\s*([A-Za-z0-9_.-]+)\s*\}\}|\{([A-Za-z0-9_.-]+)\}", re.ASCII)
_SEPARATOR = re.compile(r"[/\\]")
# Servers that decode a path more than once exist; this often, at most.
_MAX_DECODED: Final = 5


def placeholders(path: str) -> list[str]:
    """Names of the arguments a path has places for."""
    return [one or other for one, other in _PLACE.findall(path)]


def template_problem(path: str) -> str | None:
    """Why `path` is no template of one, for whoever sent it."""
    rest = _PLACE.sub("x", path)
    if any(mark in rest for mark in "{}"):
        return "has braces that are no place for an argument; write {{name}} or {name}"
    if "#" in rest or "\\" in rest or any(c.isspace() or not c.isprintable() for c in rest):
        return "must not have spaces, control characters, # or \\; percent-encode them"
    try:
        rest.encode()
    except UnicodeEncodeError:
        return "holds text that is not valid Unicode"
    if has_dot_segment(rest.partition("?")[0]):
        return "must not have . or .. as a part"
    return None


def has_dot_segment(text: str) -> bool:
    """Whether a part of `text` is `.` or `..`, however often it was percent-encoded."""
    for _ in range(_MAX_DECODED):
        if any(part in (".", "..") for part in _SEPARATOR.split(text)):
            return True
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return False
        text = decoded
    return True


def filled(path: str, arguments: Mapping[str, str]) -> str:
    """`path` with its arguments, which were made text, in their places, percent-encoded.

    Raises:
        BadRequestError: One is missing, empty, or would be another path to a server that decodes
            it: with `.` or `..` between slashes.
    """

    def place(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        text = arguments.get(name)
        if text is None:
            raise _refused(name, "is missing")
        if text == "":
            raise _refused(name, "must not be empty")
        if has_dot_segment(text):
            raise _refused(name, "must not have '.' or '..' as a part of a path")
        return quote(text, safe="")

    done = _PLACE.sub(place, path)
    # Made of several arguments, `.` and `.`.
    if has_dot_segment(done.partition("?")[0]):
        raise BadRequestError("The arguments make a path with '.' or '..' as a part.")
    return done


def _refused(name: str, problem: str) -> BadRequestError:
    message = f"The parameter '{name}' goes into the path and {problem}."
    return BadRequestError(message, [FieldError(f"parameters.{name}", problem)])
