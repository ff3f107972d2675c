"""From an operation and its arguments to a request. Pure: secrets come later."""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import httpx

from sinas.errors import BadRequestError, FieldError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.resources.connectors.checks import header_problem
from sinas.resources.connectors.paths import filled, placeholders
from sinas.resources.connectors.writing import Pair, cookie, form, json_text, plain, query, simple

_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request without credentials.

    Attributes:
        path: Below the base URL, percent-encoded.
        query: Percent-encoded names and values.
        headers: Those of arguments and of the body.
        content_type: Of the body; None without one.
    """

    method: str
    path: str
    query: tuple[Pair, ...]
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    content_type: str | None


def prepare(operation: Mapping[str, Any], given: JsonObject, fixed: Collection[str]) -> Prepared:
    """The request of one call.

    Args:
        operation: As `OperationConfig` is stored.
        given: The arguments, validated.
        fixed: Names of those that win over others that would be written to the same place.

    Raises:
        BadRequestError: An argument cannot be sent where it belongs; it is named.
    """
    sorting = _Sorting(operation, given, fixed)
    try:
        query_of_path = operation["path"].partition("?")[2]
        path, _, own = filled(operation["path"], sorting.path).partition("?")
        pairs = _without_rivals(
            sorting.query(only=given.keys() - set(fixed)),
            [*sorting.query(only=fixed), *_own_pairs(own if query_of_path else "")],
        )
        content, content_type = _body(operation, sorting.body, fixed)
        headers = sorting.headers()
    except UnicodeEncodeError:
        raise BadRequestError("An argument holds text that is not valid Unicode.") from None
    return Prepared(
        method=operation["method"],
        path=path,
        query=tuple(pairs),
        headers=headers,
        content=content,
        content_type=content_type,
    )


def without_rivals(pairs: Sequence[Pair], name: str) -> list[Pair]:
    """`pairs` without those that a server would take for `name`."""
    return [pair for pair in pairs if unquote(pair[0]) != name]


def _without_rivals(weak: Sequence[Pair], strong: Sequence[Pair]) -> list[Pair]:
    names = {unquote(name) for name, _ in strong}
    return [*(pair for pair in weak if unquote(pair[0]) not in names), *strong]


def _own_pairs(text: str) -> list[Pair]:
    """The query that the path itself has."""
    parts = (part.partition("=") for part in text.split("&") if part)
    return [(name, value) for name, _, value in parts]


class _Sorting:
    """Arguments by where they go."""

    def __init__(
        self, operation: Mapping[str, Any], given: JsonObject, fixed: Collection[str]
    ) -> None:
        self._bindings: Mapping[str, Any] = operation.get("bindings", {})
        places = set(placeholders(operation["path"]))
        rest = "query" if "query" in operation["request_body_mapping"] else "body"
        self._by_place: dict[str, JsonObject] = {
            name: {} for name in ("path", "query", "header", "cookie", "body")
        }
        for name, value in given.items():
            bound = self._bindings.get(name, {}).get("in", rest)
            self._by_place["path" if name in places else bound][name] = value
        for held in self._by_place.values():
            taken = {self._wire(name): name for name in held if name in fixed}
            for name in [n for n in held if taken.get(self._wire(n), n) != n]:
                del held[name]

    @property
    def path(self) -> dict[str, str]:
        """Texts of the path's arguments."""
        return {
            name: simple(value, explode=self._explodes(name, usually=False))
            for name, value in self._by_place["path"].items()
            if value is not None
        }

    @property
    def body(self) -> "_Body":
        """What the body has."""
        return _Body(self._by_place["body"], self._bindings)

    def query(self, *, only: Collection[str]) -> list[Pair]:
        """Parameters of the query, of some arguments."""
        return [
            pair
            for name, value in self._by_place["query"].items()
            if value is not None and name in only
            for pair in query(
                self._wire(name),
                value,
                self._bindings.get(name, {}).get("style") or "form",
                explode=self._explodes(name, usually=self._is_form(name)),
            )
        ]

    def headers(self) -> dict[str, str]:
        """Headers, one for all cookies among them."""
        found: dict[str, str] = {}
        for name, value in self._by_place["header"].items():
            if value is None:
                continue
            text = simple(value, explode=self._explodes(name, usually=False))
            if problem := header_problem(text):
                raise _refused(name, problem)
            found[self._wire(name)] = text
        cookies = self._by_place["cookie"].items()
        if written := [cookie(self._wire(n), value) for n, value in cookies if value is not None]:
            found["Cookie"] = "; ".join(written)
        return found

    def _wire(self, name: str) -> str:
        return str(self._bindings.get(name, {}).get("name") or name)

    def _explodes(self, name: str, *, usually: bool) -> bool:
        told = self._bindings.get(name, {}).get("explode")
        return usually if told is None else bool(told)

    def _is_form(self, name: str) -> bool:
        return (self._bindings.get(name, {}).get("style") or "form") == "form"


@dataclass(frozen=True, slots=True)
class _Body:
    arguments: JsonObject
    bindings: Mapping[str, Any]

    def by_wire_name(self) -> JsonObject:
        return {self._wire(name): value for name, value in self.arguments.items()}

    def pairs(self, fixed: Collection[str]) -> list[Pair]:
        weak = self._pairs([name for name in self.arguments if name not in fixed])
        return _without_rivals(weak, self._pairs([n for n in self.arguments if n in fixed]))

    def _pairs(self, names: Sequence[str]) -> list[Pair]:
        return [
            pair
            for name in names
            if self.arguments[name] is not None
            for pair in form(
                self._wire(name),
                self.arguments[name],
                self.bindings.get(name, {}).get("style"),
                explode=self.bindings.get(name, {}).get("explode") is not False,
            )
        ]

    def _wire(self, name: str) -> str:
        return str(self.bindings.get(name, {}).get("name") or name)


def _body(
    operation: Mapping[str, Any], body: _Body, fixed: Collection[str]
) -> tuple[bytes | None, str | None]:
    kind: str = operation.get("content_type", "application/json")
    whole: str | None = operation.get("body_argument")
    if whole is not None:
        if whole not in body.arguments:
            return None, None
        return _whole(operation, whole, body.arguments[whole], kind), kind
    is_wanted = "json" in operation["request_body_mapping"] and operation["method"] not in _BODILESS
    if not body.arguments and not is_wanted:
        return None, None
    if kind == _FORM:
        return "&".join(f"{name}={value}" for name, value in body.pairs(fixed)).encode(), kind
    if kind == _MULTIPART:
        return _multipart(operation, body)
    return json_text(body.by_wire_name()).encode(), kind if "json" in kind else "application/json"


def _whole(operation: Mapping[str, Any], name: str, value: JsonValue, kind: str) -> bytes:
    if "json" in kind:
        return json_text(value).encode()
    if kind == _FORM and isinstance(value, dict):
        members = (form(key, item, None, explode=True) for key, item in value.items())
        return "&".join(f"{key}={text}" for pairs in members for key, text in pairs).encode()
    return _bytes(operation, name, value)


def _multipart(operation: Mapping[str, Any], body: _Body) -> tuple[bytes, str]:
    wire = {name: str(body.bindings.get(name, {}).get("name") or name) for name in body.arguments}
    files = []
    for name, value in body.arguments.items():
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            # A part without a file's name is a plain field of the form.
            filename = wire[name] if _is_base64(operation, name) else None
            files.append((wire[name], (filename, _bytes(operation, name, item))))
    request = httpx.Request("POST", "http://form", files=files or [("", (None, b""))])
    return request.read(), request.headers["content-type"]


def _bytes(operation: Mapping[str, Any], name: str, value: JsonValue) -> bytes:
    text = plain(value)
    if not _is_base64(operation, name):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(name, "is not base64") from None


def _is_base64(operation: Mapping[str, Any], name: str) -> bool:
    described = operation["parameters"].get("properties", {}).get(name, {})
    if not isinstance(described, dict):
        return False
    items = described.get("items")
    inner = items if isinstance(items, dict) else {}
    return "base64" in (described.get("contentEncoding"), inner.get("contentEncoding"))


def _refused(name: str, problem: str) -> BadRequestError:
    message = f"The parameter '{name}' {problem}."
    return BadRequestError(message, [FieldError(f"parameters.{name}", problem)])
