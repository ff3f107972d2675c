"""From schemas of OpenAPI to JSON Schemas that models and validators take. Pure.

References are written out; where one leads back to itself, or the schema grows too large, what
follows is left open: a value that the service takes is never refused for it.
"""

from collections.abc import Mapping
from typing import Any, Final

import regex  # type: ignore[import-untyped]

from sinas.resources.connectors.openapi.references import References

_MAX_DEPTH: Final = 10
_MAX_SCHEMAS: Final = 200
_MAX_ENUM: Final = 500
_MAX_DESCRIPTION_CHARS: Final = 400
_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_KEPT: Final = frozenset(
    {
        *("const", "default", "description", "format", "maximum", "minimum"),
        *("maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"),
        *("multipleOf", "uniqueItems", "contentEncoding", "contentMediaType"),
    }
)
_BINARY_NOTE: Final = "File contents, in base64."


class Schemas:
    """Converts the schemas of one operation; they share one budget."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._left = _MAX_SCHEMAS
        self._open: list[str] = []
        self.notes: list[str] = []

    def converted(self, schema: Any) -> dict[str, Any]:
        """`schema` without references."""
        return self._of(schema, 0)

    def flattened(self, schema: Any) -> dict[str, Any] | None:
        """An object schema with its properties at the top, `allOf` merged; None for others.

        Raises:
            DocumentError: A reference leads nowhere.
        """
        whole = self._resolved_object(schema, 0)
        if whole is None or any(key in whole for key in ("anyOf", "oneOf", "not", "if")):
            return None
        kind = whole.get("type", "object")
        properties = whole.get("properties")
        if kind not in ("object", ["object"]) or not isinstance(properties, dict) or not properties:
            return None
        found = self._of(whole, 0)
        return found if found.get("properties") else None

    def _resolved_object(self, schema: Any, depth: int) -> dict[str, Any] | None:
        """The schema itself, with the parts of `allOf` merged into it."""
        if depth > _MAX_DEPTH or not isinstance(schema, dict):
            return None
        merged = {**self._references.followed(schema)}
        parts = merged.pop("allOf", None) or []
        for part in parts if isinstance(parts, list) else []:
            found = self._resolved_object(part, depth + 1)
            if found is None:
                return None
            merged = _merged(merged, found)
        return merged

    def _of(self, schema: Any, depth: int) -> dict[str, Any]:
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            return self._of_reference(schema, depth)
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            self._note("large schemas are left open below some level")
            return _outline(schema)
        found = {key: value for key, value in schema.items() if key in _KEPT}
        if isinstance(text := found.get("description"), str):
            found["description"] = text[:_MAX_DESCRIPTION_CHARS]
        else:
            found.pop("description", None)
        self._add_kind(schema, found)
        self._add_members(schema, found, depth)
        self._add_alternatives(schema, found, depth)
        return found

    def _of_reference(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        reference = str(schema["$ref"])
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        target = self._references.target(reference)
        if reference in self._open:
            self._note("schemas that contain themselves are left open inside")
            return _outline(target) | _outline(beside)
        self._open.append(reference)
        try:
            if not isinstance(target, dict):
                return self._of(target, depth)
            return self._of({**target, **beside}, depth)
        finally:
            self._open.pop()

    def _add_kind(self, schema: Mapping[str, Any], found: dict[str, Any]) -> None:
        kinds = _kinds(schema.get("type"))
        enum = schema.get("enum")
        is_nullable = schema.get("nullable") is True and bool(kinds)
        if isinstance(enum, list) and enum and len(enum) <= _MAX_ENUM:
            found["enum"] = [*enum, None] if is_nullable and None not in enum else enum
        if is_nullable and "null" not in kinds:
            kinds = [*kinds, "null"]
        if kinds:
            found["type"] = kinds[0] if len(kinds) == 1 else kinds
        if schema.get("format") == "binary" or schema.get("type") == "file":
            found.pop("format", None)
            found |= {"type": "string", "contentEncoding": "base64"}
            found["description"] = f"{found.get('description', '')} {_BINARY_NOTE}".strip()
        for bound in ("Maximum", "Minimum"):
            exclusive, plain = schema.get(f"exclusive{bound}"), bound.lower()
            # A flag in 3.0, the bound itself in 3.1.
            if exclusive is True and plain in found:
                found[f"exclusive{bound}"] = found.pop(plain)
            elif isinstance(exclusive, int | float) and not isinstance(exclusive, bool):
                found[f"exclusive{bound}"] = exclusive
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and _compiles(pattern):
            found["pattern"] = pattern

    def _add_members(self, schema: Mapping[str, Any], found: dict[str, Any], depth: int) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            # What only answers have is nothing to give.
            given = {
                str(name): each
                for name, each in properties.items()
                if not (isinstance(each, dict) and each.get("readOnly") is True)
            }
            found["properties"] = {name: self._of(e, depth + 1) for name, e in given.items()}
            found.setdefault("type", "object")
        required = schema.get("required")
        if isinstance(required, list):
            known = found.get("properties")
            names = dict.fromkeys(name for name in required if isinstance(name, str))
            found["required"] = [n for n in names if known is None or n in known]
        more = schema.get("additionalProperties")
        if isinstance(more, bool):
            found["additionalProperties"] = more
        elif isinstance(more, dict):
            found["additionalProperties"] = self._of(more, depth + 1)
        if "items" in schema:
            found["items"] = self._of(schema["items"], depth + 1)
        elif "array" in _kinds(schema.get("type")):
            found["items"] = {}

    def _add_alternatives(
        self, schema: Mapping[str, Any], found: dict[str, Any], depth: int
    ) -> None:
        for keyword in ("allOf", "anyOf", "oneOf"):
            parts = schema.get(keyword)
            if isinstance(parts, list) and parts:
                # Parts that were made alike by leaving things open would break `oneOf`.
                kept = "anyOf" if keyword == "oneOf" else keyword
                converted = [self._of(part, depth + 1) for part in parts]
                if kept in found:
                    found.setdefault("allOf", []).append({kept: converted})
                else:
                    found[kept] = converted
        if isinstance(schema.get("not"), dict):
            found["not"] = self._of(schema["not"], depth + 1)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _kinds(told: Any) -> list[str]:
    kinds = told if isinstance(told, list) else [told]
    return [kind for kind in dict.fromkeys(map(str, kinds)) if kind in _TYPES]


def _outline(schema: Any) -> dict[str, Any]:
    """The type and the description of a schema, without what is inside."""
    if not isinstance(schema, dict):
        return {}
    kinds = _kinds(schema.get("type"))
    found: dict[str, Any] = {}
    if kinds and schema.get("nullable") is not True:
        found["type"] = kinds[0] if len(kinds) == 1 else kinds
    if "array" in kinds:
        found["items"] = {}
    if isinstance(text := schema.get("description"), str):
        found["description"] = text[:_MAX_DESCRIPTION_CHARS]
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two parts of an `allOf`, as one object."""
    both = {**other, **one}
    if "properties" in both:
        first, later = one.get("properties") or {}, other.get("properties") or {}
        both["properties"] = {**first, **{k: v for k, v in later.items() if k not in first}}
    required = [*(one.get("required") or []), *(other.get("required") or [])]
    if required:
        both["required"] = required
    return both


def _compiles(pattern: str) -> bool:
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError):
        return False
    return True
