"""Strict stores: known keys, and values that fit their schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.errors import BadRequestError
from sinas.models import StateVisibility
from sinas.resources.stores.values import Rules
from tests.factories.memory import make_store
from tests.resources.stores.support import STATES, keys, put

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

SCHEMA: dict[str, Any] = {
    "$defs": {"colour": {"enum": ["red", "blue"]}},
    "properties": {
        "theme": {"type": "object", "properties": {"colour": {"$ref": "#/$defs/colour"}}},
        "old_theme": {"$ref": "#/properties/theme"},
        "size": {"type": "integer"},
    },
    "required": ["size", "theme"],
}


async def make(context: AppContext, as_: SignIn, **columns: Any) -> None:
    admin = await as_.user("admin")
    await make_store(context, admin, namespace="app", name="notes", **columns)


async def test_known_keys_with_fitting_values(context: AppContext, as_: SignIn) -> None:
    await make(context, as_, schema=SCHEMA, strict=True)
    user = await as_("user")
    await put(user, "size", 7)
    await put(user, "theme", {"colour": "red"})
    await put(user, "old_theme", {"colour": "blue"})
    for key, value, field in (
        ("size", "large", "value"),
        ("theme", {"colour": "green"}, "value.colour"),
        ("old_theme", {"colour": 1}, "value.colour"),
    ):
        answer = await user.put(f"{STATES}/{key}", json={"value": value})
        assert answer.status_code == 400, (key, value)
        assert [each["field"] for each in answer.json()["errors"]] == [field]
        assert f"'{key}'" in answer.json()["detail"]
        assert (await user.put(f"{STATES}/{key}", json={"tags": ["t"]})).status_code == 200


async def test_unknown_keys_are_refused_by_name(context: AppContext, as_: SignIn) -> None:
    await make(context, as_, schema=SCHEMA, strict=True)
    user = await as_("user")
    answer = await user.post(STATES, json={"key": "colour", "value": 1})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["errors"]] == ["key"]
    assert "'colour'" in answer.json()["detail"]
    assert "'old_theme', 'size', 'theme'" in answer.json()["detail"]
    bad = await user.post(STATES, json={"key": "size", "value": "large"})
    assert bad.status_code == 400
    assert await keys(user) == []


@pytest.mark.parametrize("schema", [{}, {"properties": {}}, {"description": "Anything"}])
async def test_without_known_keys_every_key_is_good(
    context: AppContext, as_: SignIn, schema: dict[str, Any]
) -> None:
    await make(context, as_, schema=schema, strict=True)
    await put(await as_("user"), "anything", "goes")


async def test_without_strict_a_schema_only_describes(context: AppContext, as_: SignIn) -> None:
    await make(context, as_, schema=SCHEMA)
    user = await as_("user")
    await put(user, "size", "large")
    await put(user, "unknown", 1)


async def test_strict_counts_from_the_next_write_on(context: AppContext, as_: SignIn) -> None:
    await make(context, as_, schema=SCHEMA)
    user, admin = await as_("user"), await as_("admin")
    await put(user, "size", "large")
    await admin.put("/api/v1/stores/app/notes", json={"strict": True})
    assert (await user.get(f"{STATES}/size")).json()["value"] == "large"
    assert (await user.put(f"{STATES}/size", json={"value": "huge"})).status_code == 400
    assert (await user.put(f"{STATES}/size", json={"value": 3})).status_code == 200


async def test_a_schema_that_takes_long_stops_nobody(context: AppContext, as_: SignIn) -> None:
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(30)}
    schema = {"$defs": {**steps, "s30": {}}, "properties": {"k": {"$ref": "#/$defs/s0"}}}
    await make(context, as_, schema=schema, strict=True)
    answer = await (await as_("user")).post(STATES, json={"key": "k", "value": 1})
    assert answer.status_code == 400
    assert "too long" in answer.json()["detail"]


async def test_values_inside_references_keep_their_place() -> None:
    rules = Rules(
        id=uuid4(),
        namespace="a",
        name="b",
        schema={"properties": {"k": {"items": {"type": "string"}}}},
        strict=True,
        default_visibility=StateVisibility.PRIVATE,
        encrypted=False,
    )
    await rules.check("k", ["a"])
    with pytest.raises(BadRequestError, match=r"value\.1") as caught:
        await rules.check("k", ["a", 2])
    assert [error.field for error in caught.value.errors] == ["value.1"]
