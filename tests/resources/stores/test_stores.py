"""Rules of stores beyond what every resource has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sinas.models import State
from tests.factories.identity import make_user
from tests.factories.memory import make_state, make_store
from tests.resources.stores.support import STATES, put

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.models import Store
    from tests.fixtures.client import SignIn

PATH = "/api/v1/stores"


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"name": "notes", **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_a_store_is_without_saying(as_: SignIn) -> None:
    made = await create(await as_("user"))
    assert made.pop("id")
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        "user_id": str((await as_.user("user")).id),
        "namespace": "default",
        "name": "notes",
        "description": None,
        "schema": {},
        "strict": False,
        "default_visibility": "private",
        "encrypted": False,
    }


async def test_null_is_as_if_left_out_but_empties_the_description(as_: SignIn) -> None:
    user = await as_("user")
    nothing = dict.fromkeys(("description", "schema"))
    assert (await create(user, **nothing))["schema"] == {}
    schema = {"properties": {"a": {"type": "integer"}}}
    body = {"schema": schema, "strict": True, "description": "D"}
    await user.put(f"{PATH}/default/notes", json=body)
    fields = ("schema", "strict", "description", "default_visibility", "encrypted", "name")
    changed = (await user.put(f"{PATH}/default/notes", json=dict.fromkeys(fields))).json()
    assert (changed["schema"], changed["strict"], changed["name"]) == (schema, True, "notes")
    assert changed["description"] is None


async def test_a_list_can_be_of_one_namespace(as_: SignIn) -> None:
    user = await as_("user")
    await create(user, namespace="a")
    await create(user, namespace="b")
    found = (await user.get(PATH, params={"namespace": "b"})).json()
    assert [each["namespace"] for each in found] == ["b"]
    assert (await user.get(PATH, params={"namespace": "c"})).json() == []


async def test_renaming_takes_the_right_to_create_the_new_name(
    context: AppContext, as_: SignIn
) -> None:
    rights = [
        f"sinas.stores/{where}.{action}:own"
        for where, actions in (
            ("a/*", ("create", "read", "update", "read_state", "write_state")),
            ("b/*", ("read", "read_state", "write_state")),
        )
        for action in actions
    ]
    client = await as_(await make_user(context, roles=(), permissions=rights))
    await create(client, namespace="a")
    await client.post("/stores/a/notes/states", json={"key": "k", "value": 7})
    refused = await client.put(f"{PATH}/a/notes", json={"namespace": "b"})
    assert refused.status_code == 403
    assert "'b/notes'" in refused.json()["detail"]
    renamed = await client.put(f"{PATH}/a/notes", json={"name": "facts"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "facts")
    assert (await client.get("/stores/a/facts/states/k")).json()["value"] == 7
    assert (await client.get("/stores/a/notes/states/k")).status_code == 404


async def test_a_name_that_is_taken(as_: SignIn) -> None:
    user = await as_("user")
    await create(user)
    await create(user, name="facts")
    answer = await user.put(f"{PATH}/default/facts", json={"name": "notes"})
    assert answer.status_code == 400
    assert "default/notes" in answer.json()["detail"]


async def test_deleting_a_store_deletes_its_states(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    await put(await as_("user"))
    await put(await as_("other"), visibility="shared")
    assert (await (await as_("admin")).delete(f"{PATH}/app/notes")).status_code == 204
    async with context.sessions() as session:
        assert await session.scalar(select(func.count(State.id))) == 0
    assert (await (await as_("user")).get(STATES)).status_code == 404


async def test_schemas_that_cannot_be_used_are_refused(as_: SignIn) -> None:
    user = await as_("user")
    for schema in (
        {"properties": {"a": {"type": "nonsense"}}},
        {"properties": {"a": {"$ref": "#/$defs/none"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": ["a"]},
        {"properties": {"a": 7}},
    ):
        answer = await user.post(PATH, json={"name": "n", "schema": schema})
        assert answer.status_code == 422, schema
        assert [each["field"] for each in answer.json()["errors"]] == ["schema"]


async def test_discovery_lists_readable_ones_by_name(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    user = await as_("user")
    await create(user, namespace="b")
    await create(user, namespace="a")
    for path in ("/stores", "/discovery/stores"):
        found = (await user.get(path)).json()
        assert [each["namespace"] for each in found] == ["a", "b"]
        assert found[0]["schema"] == {}
        assert len((await user.get(path, params={"skip": 1})).json()) == 1
        assert (await user.get(path, params={"app": "no-slash"})).status_code == 400
        assert (await user.get(path, params={"app": "no/where"})).status_code == 404
    assert len((await (await as_("admin")).get("/stores")).json()) == 3
    assert (await (await as_("guest")).get("/stores")).status_code == 403


async def test_a_store_of_nobody_is_for_administrators(context: AppContext, as_: SignIn) -> None:
    nobodys = await make_store(context, None, namespace="crm", name="default")
    user = await as_.user("user")
    await make_state(context, nobodys, user, "k")
    client, admin = await as_("user"), await as_("admin")
    path = f"{PATH}/crm/default"
    assert (await client.get("/stores/crm/default/states/k")).json()["value"] == 1
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await admin.get(path)).json()["user_id"] is None
    assert (await admin.delete(path)).status_code == 204
