"""JSON Schema (draft 2020-12): checking schemas, coercing values, validating them. Pure.

References are resolved inside the schema or against the published metaschemas, never fetched.
Schemas come from users: regular expressions run under a time limit, and so does a validation
as a whole, because a few nested references can ask for 2^30 steps.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import regex  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from sinas.kit.json_types import JsonObject, JsonValue

_BUDGET_SECONDS = 1.0
_MAX_VIOLATIONS = 10
_MAX_MESSAGE_CHARS = 300
_COSTLY = ('"$ref"', '"$dynamicRef"', '"pattern"', '"patternProperties"', '"uniqueItems"')
_ENDLESS = "the schema refers to itself without end"
_TOO_LONG = "validation takes too long; simplify the schema"

_deadline: ContextVar[float] = ContextVar("validation_deadline", default=math.inf)


class BadSchemaError(Exception):
    """A schema that cannot be used.

    Attributes:
        path: Where in the schema.
        message: What is wrong there, as a phrase.
    """

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a value breaks its schema. `path` is empty for the whole value."""

    path: tuple[str | int, ...]
    message: str


class _OutOfTimeError(Exception):
    """The validation's time is up."""


def _remaining() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise _OutOfTimeError
    return left


def _search(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=_remaining()) is not None
    except TimeoutError:
        raise _OutOfTimeError from None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if validator.is_type(instance, "string") and not _search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    del schema
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            if _search(pattern, key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """As jsonschema's own, with the guarded search and a path where one property is meant."""
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), tuple(schema.get("patternProperties", ()))
    extras = [
        key for key in instance if key not in known and not any(_search(p, key) for p in patterns)
    ]
    if allowed is False and extras:
        names = ", ".join(repr(key) for key in sorted(extras))
        verb = "was" if len(extras) == 1 else "were"
        yield ValidationError(
            f"Additional properties are not allowed ({names} {verb} unexpected)",
            path=extras if len(extras) == 1 else (),
        )
    for key in extras if isinstance(allowed, dict) else ():
        yield from validator.descend(instance[key], allowed, path=key)


def _required(
    validator: Any, names: list[str], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """As jsonschema's own, but the error's path names the missing property."""
    del schema
    if not validator.is_type(instance, "object"):
        return
    for name in names:
        if name not in instance:
            yield ValidationError(f"{name!r} is a required property", path=[name])


def _unique_items(
    validator: Any, wanted: bool, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """Linear, where jsonschema compares every pair of items that are not scalars."""
    del schema
    if wanted and validator.is_type(instance, "array"):
        distinct = {_hashable(item) for item in instance}
        if len(distinct) != len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _hashable(value: JsonValue) -> Any:
    match value:
        case dict():
            return ("object", frozenset((key, _hashable(item)) for key, item in value.items()))
        case list():
            return ("array", *(_hashable(item) for item in value))
        case bool():
            return ("boolean", value)  # True == 1 in Python, not in JSON
        case _:
            return value


def _timed_ref(validator: Any, ref: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    _remaining()
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, schema) or ()


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "$ref": _timed_ref,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "required": _required,
        "uniqueItems": _unique_items,
    },
)


class Schema:
    """A schema ready for use. It should have passed `check_schema` once.

    Attributes:
        is_costly: Whether validating even a small value may take long; better not on an event
            loop then.
    """

    def __init__(self, schema: JsonObject) -> None:
        self._schema = _without_dialect(schema)
        self._validator = _Validator(self._schema, registry=REGISTRY)
        text = json.dumps(schema)
        self.is_costly = any(keyword in text for keyword in _COSTLY)

    def violations(self, value: JsonValue) -> tuple[Violation, ...]:
        """Where `value` breaks the schema, most telling first, at most ten; empty if nowhere.

        Ends within about a second, whatever the schema; running out of time is a violation.
        """
        token = _deadline.set(time.monotonic() + _BUDGET_SECONDS)
        try:
            errors = list(islice(self._validator.iter_errors(value), _MAX_VIOLATIONS))
        except _OutOfTimeError:
            return (Violation((), _TOO_LONG),)
        except RecursionError:
            return (Violation((), _ENDLESS),)
        except Unresolvable as error:
            return (Violation((), f"the schema's reference {error.ref!r} leads nowhere"),)
        finally:
            _deadline.reset(token)
        best = best_match(iter(errors))
        if best is None:
            return ()
        found = {
            tuple(error.absolute_path): _short(error.message) for error in reversed(errors)
        } | {tuple(best.absolute_path): _short(best.message)}
        first = tuple(best.absolute_path)
        paths = [first, *(path for path in found if path != first)]
        return tuple(Violation(path, found[path]) for path in paths)

    def coerce(self, value: JsonObject) -> JsonObject:
        """A copy whose top-level properties have the types the schema names, where that works.

        Texts become integers, numbers, booleans, arrays and objects; what cannot be turned is
        left for the validation to report. A boolean property takes the truth of any value,
        texts being true when they say `true`, `1` or `yes`.
        """
        properties = self._schema.get("properties")
        if not isinstance(properties, dict):
            return value
        coerced = dict(value)
        for key, subschema in properties.items():
            if key in coerced and isinstance(subschema, dict):
                coerced[key] = _coerced(coerced[key], subschema.get("type"))
        return coerced


def compile_schema(schema: JsonObject) -> Schema:
    """The `Schema` of a mapping; the last few hundred are remembered."""
    return _compiled(orjson.dumps(schema))


@lru_cache(maxsize=256)
def _compiled(text: bytes) -> Schema:
    return Schema(orjson.loads(text))


def check_schema(schema: JsonObject) -> None:
    """Make sure that `schema` can be used for validation.

    Raises:
        BadSchemaError: Against the metaschema, an expression that does not compile, a reference
            that leads nowhere (nothing is fetched), or endless recursion.
    """
    try:
        Draft202012Validator.check_schema(_without_dialect(schema))
        _Walk(schema).check()
    except SchemaError as error:
        raise BadSchemaError(tuple(error.absolute_path), _short(error.message)) from None
    except RecursionError:
        raise BadSchemaError((), "is nested too deeply") from None
    ready = Schema(schema)
    probes: tuple[JsonValue, ...] = ({}, [], "", 0)
    for probe in probes:
        for violation in ready.violations(probe):
            if violation.message in (_ENDLESS, _TOO_LONG):
                raise BadSchemaError((), violation.message)


def _without_dialect(schema: JsonObject) -> JsonObject:
    """Tools write older dialects there; without the key every part is read as 2020-12."""
    return {key: value for key, value in schema.items() if key != "$schema"}


class _Walk:
    """Visits every subschema, also those only references lead to."""

    def __init__(self, schema: JsonObject) -> None:
        root = _without_dialect(schema)
        self._root: Any = DRAFT202012.create_resource(root)
        self._seen: set[int] = set()
        self._text = json.dumps(root)

    def check(self) -> None:
        if '"unevaluatedProperties"' in self._text and '"patternProperties"' in self._text:
            raise BadSchemaError(
                (), "uses unevaluatedProperties with patternProperties, which is not supported"
            )
        self._visit(self._root, REGISTRY.resolver_with_root(self._root))

    def _visit(self, resource: Any, resolver: Any) -> None:
        contents = resource.contents
        if not isinstance(contents, dict) or id(contents) in self._seen:
            return
        self._seen.add(id(contents))
        if "$schema" in contents:
            raise BadSchemaError((), "names a $schema inside; only the outermost level may")
        for pattern in (contents.get("pattern"), *contents.get("patternProperties", ())):
            if pattern is not None:
                _check_pattern(pattern)
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(ref := contents.get(keyword), str):
                self._follow(keyword, ref, resolver)
        for subresource in resource.subresources():
            self._visit(subresource, resolver.in_subresource(subresource))

    def _follow(self, keyword: str, ref: str, resolver: Any) -> None:
        try:
            found = resolver.lookup(ref)
        except Unresolvable:
            raise BadSchemaError(
                (keyword,), f"reference {ref!r} leads nowhere; nothing is fetched"
            ) from None
        if not ref.startswith("https://json-schema.org/"):
            self._visit(DRAFT202012.create_resource(found.contents), found.resolver)


def _check_pattern(pattern: str) -> None:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise BadSchemaError(("pattern",), f"{pattern!r} is no pattern: {error}") from None


def _coerced(value: JsonValue, wanted: object) -> JsonValue:
    if wanted == "boolean" and not isinstance(value, bool):
        return value.lower() in ("true", "1", "yes") if isinstance(value, str) else bool(value)
    if not isinstance(value, str):
        return value
    try:
        return _parsed(value, wanted)
    except (ValueError, RecursionError):
        return value


def _parsed(text: str, wanted: object) -> JsonValue:
    match wanted:
        case "integer":
            return int(text)
        case "number":
            number = float(text)
            return number if math.isfinite(number) else text
        case "array" | "object":
            parsed: JsonValue = json.loads(text)
            return parsed if isinstance(parsed, list | dict) else text
        case _:
            return text


def _short(message: str) -> str:
    if len(message) <= _MAX_MESSAGE_CHARS:
        return message
    half = _MAX_MESSAGE_CHARS // 2
    return f"{message[:half]} ... {message[-half:]}"
