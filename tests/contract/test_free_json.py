"""JSON that clients make up: what the database cannot hold is refused, what it holds is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

PROPERTIES = {
    "reasoning": {"type": "string"},
    "answer": {"type": "string"},
    "a": {"type": "integer"},
}
ORDERED = {"type": "object", "properties": PROPERTIES, "required": ["reasoning", "answer"]}
CODE = "def handler(input_data, context):\n    return {}"
FUNCTION: dict[str, Any] = {
    "name": "f",
    "code": CODE,
    "input_schema": {"type": "object"},
    "output_schema": {"type": "object"},
}
TEMPLATE: dict[str, Any] = {"name": "t", "html_content": "x"}


@pytest.mark.parametrize(
    ("path", "item", "body", "field"),
    [
        ("agents", "default/a", {"name": "a"}, "output_schema"),
        ("agents", "default/a", {"name": "a"}, "input_schema"),
        ("functions", "default/f", FUNCTION, "input_schema"),
        ("functions", "default/f", FUNCTION, "output_schema"),
        ("templates", "by-name/default/t", TEMPLATE, "variable_schema"),
    ],
)
async def test_schemas_keep_the_order_of_their_properties(
    as_: SignIn, path: str, item: str, body: dict[str, Any], field: str
) -> None:
    """Models write the fields of an answer in the order of its schema: reasons first, then it."""
    admin = await as_("admin")
    made = await admin.post(f"/api/v1/{path}", json=body | {field: ORDERED})
    assert made.status_code == 201, made.text
    for answer in (made, await admin.get(f"/api/v1/{path}/{item}")):
        assert list(answer.json()[field]["properties"]) == list(PROPERTIES)
        assert answer.json()[field] == ORDERED


@pytest.mark.parametrize("value", [b"12345678901234567890123", b'"\\ud800"'])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("agents", b'{"name": "x", "input_schema": {"properties": {"a": {"default": %s}}}}'),
        ("agents", b'{"name": "x", "provider_overrides": {"seed": %s}}'),
        ("agents", b'{"name": "x", "function_parameters": {"default/f": {"a": %s}}}'),
        ("stores", b'{"name": "x", "schema": {"properties": {"a": {"default": %s}}}}'),
        (
            "collections",
            b'{"name": "x", "metadata_schema": {"properties": {"a": {"default": %s}}}}',
        ),
        (
            "templates",
            b'{"name": "x", "html_content": "x", "variable_schema": {"default": {"a": %s}}}',
        ),
        (
            "llm-providers",
            b'{"name": "x", "provider_type": "openai", "config": {"a": %s}}',
        ),
        ("secrets", b'{"name": "x", "value": "1", "description": %s}'),
    ],
)
async def test_what_cannot_be_stored_is_the_callers_mistake(
    as_: SignIn, path: str, body: bytes, value: bytes
) -> None:
    admin = await as_("admin")
    before = (await admin.get(f"/api/v1/{path}")).json()
    answer = await admin.post(
        f"/api/v1/{path}", content=body % value, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    assert (await admin.get(f"/api/v1/{path}")).json() == before


async def test_half_a_character_is_no_secret(as_: SignIn) -> None:
    user = await as_("user")
    answer = await user.post(
        "/api/v1/secrets",
        content=b'{"name": "x", "value": "\\ud800", "visibility": "private"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert (await user.get("/api/v1/secrets")).json() == []


async def test_inputs_of_chats(as_: SignIn) -> None:
    user = await as_("user")
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    made = await user.post("/api/v1/agents", json={"name": "x", "input_schema": schema})
    assert made.status_code == 201
    for path, body in (
        ("chats", b'{"input": {"a": 12345678901234567890123}}'),
        ("invoke", b'{"message": "hi", "input": {"a": 12345678901234567890123}}'),
    ):
        answer = await user.post(
            f"/agents/default/x/{path}", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
