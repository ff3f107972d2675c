"""Schemas: what is accepted, what values become, what is reported."""

from typing import Any

import pytest

from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, Schema, check_schema, compile_schema

BOMB: dict[str, Any] = {
    "type": "object",
    "$ref": "#/$defs/a0",
    "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(30)}
    | {"a30": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("wanted", "given", "becomes"),
    [
        ("integer", "5", 5),
        ("integer", "five", "five"),
        ("integer", "5.5", "5.5"),
        ("integer", 5.5, 5.5),
        ("integer", "9" * 5000, "9" * 5000),
        ("number", "5.5", 5.5),
        ("number", "nan", "nan"),
        ("number", "inf", "inf"),
        ("boolean", "true", True),
        ("boolean", "YES", True),
        ("boolean", "1", True),
        ("boolean", "false", False),
        ("boolean", "anything", False),
        ("boolean", None, False),
        ("boolean", 2, True),
        ("boolean", False, False),
        ("array", "[1, 2]", [1, 2]),
        ("array", "[1, 2", "[1, 2"),
        ("array", "1", "1"),
        ("object", '{"a": 1}', {"a": 1}),
        ("string", 5, 5),
        ("string", "5", "5"),
        (["integer", "null"], "5", "5"),
        (None, "5", "5"),
    ],
)
def test_coercion(wanted: Any, given: Any, becomes: Any) -> None:
    schema = Schema({"type": "object", "properties": {"x": {"type": wanted}}})
    value = {"x": given, "other": "5"}
    assert schema.coerce(value) == {"x": becomes, "other": "5"}
    assert type(schema.coerce(value)["x"]) is type(becomes)
    assert value == {"x": given, "other": "5"}


def test_coercion_is_for_the_top_level_only_and_adds_nothing() -> None:
    inner: JsonObject = {"type": "object", "properties": {"n": {"type": "integer"}}}
    schema = Schema({"type": "object", "properties": {"x": inner, "y": {"type": "boolean"}}})
    assert schema.coerce({"x": {"n": "5"}}) == {"x": {"n": "5"}}


@pytest.mark.parametrize(
    ("schema", "value", "path", "words"),
    [
        ({"required": ["a"]}, {}, ("a",), "'a' is a required property"),
        ({"properties": {"a": {"type": "integer"}}}, {"a": "x"}, ("a",), "not of type 'integer'"),
        (
            {"properties": {"a": {"items": {"properties": {"b": {"maximum": 1}}}}}},
            {"a": [{}, {"b": 2}]},
            ("a", 1, "b"),
            "greater than the maximum",
        ),
        ({"additionalProperties": False}, {"z": 1}, ("z",), "'z' was unexpected"),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "y"}, ("a",), "does not match"),
        ({"patternProperties": {"^n": {"type": "null"}}}, {"n1": 1}, ("n1",), "'null'"),
        (
            {"properties": {"a": {"uniqueItems": True}}},
            {"a": [{"b": 1}, {"b": 1.0}]},
            ("a",),
            "non-unique",
        ),
    ],
)
def test_violations_name_the_place(
    schema: Any, value: Any, path: tuple[str | int, ...], words: str
) -> None:
    [violation] = Schema({"type": "object", **schema}).violations(value)
    assert violation.path == path
    assert words in violation.message


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"patternProperties": {"^n": {}}, "additionalProperties": False}, {"n1": 1}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, True, "1", [1], {"1": 1}]}),
        ({"properties": {"c": {"items": {"$ref": "#"}}}}, {"c": [{"c": []}]}),
        (
            {"$defs": {"a": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
            {"x": 1},
        ),
        ({"properties": {"when": {"format": "date-time"}}}, {"when": "not asserted"}),
    ],
)
def test_valid_values_have_no_violations(schema: Any, value: Any) -> None:
    whole = {"type": "object", **schema}
    check_schema(whole)
    assert Schema(whole).violations(value) == ()


def test_no_more_than_ten_violations_and_short_messages() -> None:
    schema = Schema({"type": "object", "additionalProperties": {"type": "integer"}})
    violations = schema.violations({str(n): "x" * 10_000 for n in range(1000)})
    assert len(violations) == 10
    assert all(len(violation.message) < 400 for violation in violations)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "$ref": "#"}, "without end"),
        (BOMB, "too long"),
        ({"type": "string", "pattern": "(a+)+$"}, ""),
    ],
)
def test_schemas_that_would_not_end_do_end(schema: dict[str, Any], words: str) -> None:
    # The time limit of the test itself is what fails here if they do not.
    found = Schema(schema).violations("a" * 50 + "!" if "pattern" in schema else {})
    assert words in found[0].message
    if words:
        with pytest.raises(BadSchemaError, match=words):
            check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ({"type": "objekt"}, ("type",), "objekt"),
        ({"type": "object", "properties": []}, ("properties",), "object"),
        ({"properties": {"a": {"type": 3}}}, ("properties", "a", "type"), "3"),
        ({"pattern": "(["}, ("pattern",), "regex"),
        ({"$ref": "https://example.com/schema.json"}, ("$ref",), "nothing is fetched"),
        ({"$id": "https://example.com/a", "$ref": "b"}, ("$ref",), "nothing is fetched"),
        ({"$ref": "#/$defs/absent"}, ("$ref",), "leads nowhere"),
        ({"definitions": {"a": {"$ref": "#/x"}}, "$ref": "#/definitions/a"}, ("$ref",), "#/x"),
        (
            {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
            (),
            "$schema",
        ),
        ({"patternProperties": {}, "unevaluatedProperties": False}, (), "not supported"),
    ],
)
def test_schemas_that_cannot_be_used(
    schema: dict[str, Any], path: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadSchemaError) as caught:
        check_schema(schema)
    assert caught.value.path == path
    assert words in caught.value.message


def test_too_deep_a_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2_000):
        schema = {"items": schema}
    with pytest.raises(BadSchemaError, match="deep"):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"type": "object", "const": {"$ref": "https://example.com/not-a-reference"}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_schemas_that_can_be_used(schema: dict[str, Any]) -> None:
    check_schema(schema)


def test_equal_schemas_are_compiled_once() -> None:
    assert compile_schema({"type": "array"}) is compile_schema({"type": "array"})
