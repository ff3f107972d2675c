"""`/states`: what clients do that have namespaces and no stores, as the SDK's `client.state`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from sinas.kit.time import utcnow
from sinas.models import Role, UserRole
from tests.factories.identity import make_user
from tests.factories.memory import make_state, make_store
from tests.resources.stores.support import together

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/states"


async def make(client: httpx.AsyncClient, key: str = "theme", **body: Any) -> dict[str, Any]:
    given = {"namespace": "prefs", "key": key, "value": 1, **body}
    answer = await client.post(PATH, json=given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def keys(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return [state["key"] for state in answer.json()]


async def role_of(context: AppContext, as_: SignIn, *members: str) -> str:
    """A role with nothing but members; its id."""
    async with context.unit() as unit:
        role = Role(name="team", description=None, email_domain=None)
        unit.session.add(role)
        await unit.session.flush()
        for who in members:
            unit.session.add(UserRole(user_id=(await as_.user(who)).id, role_id=role.id))
    return str(role.id)


async def test_what_the_sdk_does(as_: SignIn) -> None:
    """The bodies and queries that sinas 0.3.0 sends."""
    user = await as_("user")
    value = {"mode": "dark", "accent": "blue"}
    made = await make(
        user, value=value, visibility="private", description="Theme", tags=["settings"]
    )
    assert set(made) == {
        *("id", "user_id", "namespace", "key", "value", "visibility", "group_id"),
        *("assistant_id", "encrypted", "description", "tags", "relevance_score", "expires_at"),
        *("created_at", "updated_at"),
    }
    assert (made["namespace"], made["key"], made["value"]) == ("prefs", "theme", value)
    one = f"{PATH}/{made['id']}"
    assert (await user.get(one)).json() == made
    query: dict[str, str | int] = {
        "skip": 0,
        "limit": 100,
        "namespace": "prefs",
        "visibility": "private",
        "tags": "settings",
        "search": "theme",
    }
    assert (await user.get(PATH, params=query)).json() == [made]
    changed = (await user.put(one, json={"value": {"mode": "light"}})).json()
    assert changed == made | {"value": {"mode": "light"}, "updated_at": changed["updated_at"]}
    gone = await user.delete(one)
    assert gone.json() == {"message": "State 'theme' deleted from namespace 'prefs'"}
    assert (await user.get(one)).status_code == 404
    assert (await user.put(one, json={})).status_code == 404
    assert (await user.delete(one)).status_code == 404


async def test_a_namespace_is_a_store_of_nobody(as_: SignIn) -> None:
    user, other, admin = await as_("user"), await as_("other"), await as_("admin")
    made = await make(user, value="v")
    there = "/stores/prefs/default/states/theme"
    assert (await user.get(there)).json()["id"] == made["id"]
    await make(other)
    store = "/api/v1/stores/prefs/default"
    assert (await admin.get(store)).json()["user_id"] is None
    # Whoever was first must not delete what others keep in it.
    assert (await user.delete(store)).status_code == 404
    assert (await user.put(there, json={"value": "w"})).status_code == 200
    assert (await user.get(f"{PATH}/{made['id']}")).json()["value"] == "w"


async def test_states_of_other_stores_are_not_in_it(context: AppContext, as_: SignIn) -> None:
    owner = await as_.user("user")
    other = await make_store(context, owner, namespace="prefs", name="other")
    state = await make_state(context, other, owner, "k")
    user = await as_("user")
    await make(user)
    assert await keys(user) == ["theme"]
    assert (await user.get(f"{PATH}/{state.id}")).status_code == 404


async def test_an_existing_store_keeps_its_rules(context: AppContext, as_: SignIn) -> None:
    await make_store(
        context,
        await as_.user("admin"),
        namespace="prefs",
        name="default",
        schema={"properties": {"theme": {"type": "string"}}},
        strict=True,
        encrypted=True,
    )
    user = await as_("user")
    body = {"namespace": "prefs", "key": "theme", "value": 1}
    assert (await user.post(PATH, json=body)).status_code == 400
    made = await make(user, value="dark")
    assert (made["encrypted"], made["value"]) == (True, "dark")
    refused = await user.put(f"{PATH}/{made['id']}", json={"value": 2})
    assert refused.status_code == 400


async def test_a_key_is_taken_once_in_a_namespace(as_: SignIn) -> None:
    user = await as_("user")
    body = {"namespace": "prefs", "key": "theme", "value": 1}
    answers = await together(*(user.post(PATH, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7
    await make(user, namespace="other")
    assert await keys(user) == ["theme", "theme"]


async def test_public_ones_are_read_by_everybody_who_may_read_the_namespace(
    as_: SignIn,
) -> None:
    user, other = await as_("user"), await as_("other")
    private, public = await make(user, "a"), await make(user, "b", visibility="public")
    assert (await other.get(f"{PATH}/{private['id']}")).status_code == 404
    one = f"{PATH}/{public['id']}"
    assert (await other.get(one)).json() == public
    assert await keys(other) == ["b"]
    for method in ("PUT", "DELETE"):
        body = {"value": 2} if method == "PUT" else None
        assert (await other.request(method, one, json=body)).status_code == 403
    assert (await other.get("/stores/prefs/default/states/b")).json()["visibility"] == "shared"
    changed = await user.put(one, json={"visibility": "private"})
    assert changed.json()["visibility"] == "private"
    assert await keys(other) == []


async def test_a_group_is_a_role(context: AppContext, as_: SignIn) -> None:
    user, member, other = await as_("user"), await as_("member"), await as_("other")
    role = await role_of(context, as_, "user", "member")
    made = await make(user, visibility="group", group_id=role)
    assert (made["visibility"], made["group_id"]) == ("group", role)
    one = f"{PATH}/{made['id']}"
    assert (await member.get(one)).json() == made
    assert await keys(member) == ["theme"]
    assert (await member.put(one, json={"value": 2})).status_code == 403
    assert (await other.get(one)).status_code == 404
    # At the other paths it is private.
    there = "/stores/prefs/default/states/theme"
    assert (await user.get(there)).json()["visibility"] == "private"
    assert (await member.get(there)).status_code == 404
    async with context.unit() as unit:
        await unit.session.delete(await unit.session.get_one(Role, role))
    assert (await member.get(one)).status_code == 404
    assert (await user.get(one)).json()["visibility"] == "private"


async def test_a_group_must_be_ones_own(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    role = await role_of(context, as_, "member")
    made = await make(user, "k")
    for group in (None, role, str(uuid4())):
        body = {"visibility": "group"} | ({} if group is None else {"group_id": group})
        for answer in (
            await user.post(PATH, json={"namespace": "prefs", "key": "n", "value": 1, **body}),
            await user.put(f"{PATH}/{made['id']}", json=body),
        ):
            assert answer.status_code == 422
            assert [each["field"] for each in answer.json()["errors"]] == ["group_id"]
    mine = await role_of_name(context, "Users")
    put = await user.put(f"{PATH}/{made['id']}", json={"visibility": "group", "group_id": mine})
    assert put.json()["group_id"] == mine
    again = await user.put(f"{PATH}/{made['id']}", json={"visibility": "group"})
    assert again.json()["group_id"] == mine
    back = await user.put(f"{PATH}/{made['id']}", json={"visibility": "public"})
    assert (back.json()["visibility"], back.json()["group_id"]) == ("public", None)


async def role_of_name(context: AppContext, name: str) -> str:
    async with context.sessions() as session:
        return str(await session.scalar(select(Role.id).where(Role.name == name)))


async def test_lists_can_be_narrowed(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    role = await role_of(context, as_, "user")
    await make(user, "a", tags=["x", "y"], assistant_id="helper")
    await make(user, "b", tags=["x"], visibility="public", description="Bee")
    await make(user, "c", visibility="group", group_id=role)
    await make(user, "d", namespace="other", relevance_score=0.5)
    assert await keys(user) == ["a", "b", "c", "d"]
    assert await keys(user, skip=1, limit=2) == ["b", "c"]
    assert await keys(user, namespace="other") == ["d"]
    assert await keys(user, namespace="none") == []
    assert await keys(user, visibility="public") == ["b"]
    assert await keys(user, visibility="group") == ["c"]
    assert await keys(user, visibility="private") == ["a", "d"]
    assert await keys(user, assistant_id="helper") == ["a"]
    assert await keys(user, tags="x,y") == ["a"]
    assert await keys(user, search="bee") == ["b"]
    for bad in ({"limit": 0}, {"limit": 1001}, {"visibility": "shared"}):
        assert (await user.get(PATH, params=bad)).status_code == 422


async def test_bad_bodies_name_the_field(as_: SignIn) -> None:
    user = await as_("user")
    for name, value in (
        ("namespace", "a/b"),
        ("namespace", ""),
        ("key", ""),
        ("visibility", "shared"),
        ("group_id", "team"),
        ("assistant_id", 7),
        ("relevance_score", 2),
        ("expires_at", "soon"),
        ("surprise", 1),
    ):
        body = {"namespace": "prefs", "key": "k", "value": 1, name: value}
        answer = await user.post(PATH, json=body)
        assert answer.status_code == 422, (name, value)
        assert name in answer.json()["detail"]
    assert (await user.get(f"{PATH}/not-an-id")).status_code == 422


async def test_expired_ones_are_gone(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    past = (utcnow() - timedelta(hours=1)).isoformat()
    made = await make(user, expires_at=past)
    one = f"{PATH}/{made['id']}"
    assert await keys(user) == []
    for method in ("GET", "PUT", "DELETE"):
        body = {"value": 2} if method == "PUT" else None
        assert (await user.request(method, one, json=body)).status_code == 404
    assert (await make(user))["id"] != made["id"]


@pytest.mark.parametrize("form", ["sinas.states/prefs", "sinas.states/*", "sinas.states"])
async def test_the_rights_on_states(context: AppContext, as_: SignIn, form: str) -> None:
    """Each does what its name says, without any right on stores."""

    async def holding(*actions: str) -> httpx.AsyncClient:
        keys = [f"{form}.{action}:own" for action in actions]
        return await as_(await make_user(context, roles=(), permissions=keys))

    every = await holding("create", "read", "update", "delete")
    body = {"namespace": "prefs", "key": "k", "value": 1}
    if form == "sinas.states":
        # Creating stores in any namespace takes more than that.
        assert (await every.post(PATH, json=body)).status_code == 403
        await make_store(context, None, namespace="prefs", name="default")
    made = await make(every)
    one = f"{PATH}/{made['id']}"
    assert (await every.put(one, json={"value": 2})).status_code == 200
    assert await keys(every) == ["theme"]
    assert (await every.delete(one)).status_code == 200
    for action, statuses in (
        ("create", [201, 403, 403, 403, 403]),
        ("read", [403, 200, 404, 403, 403]),
        ("update", [403, 403, 403, 404, 403]),
        ("delete", [403, 403, 403, 403, 404]),
    ):
        client = await holding(action)
        nowhere = f"{PATH}/{uuid4()}"
        answers = [
            await client.post(PATH, json=body),
            await client.get(PATH),
            await client.get(nowhere),
            await client.put(nowhere, json={"value": 1}),
            await client.delete(nowhere),
        ]
        assert [answer.status_code for answer in answers] == statuses, action


async def test_a_right_to_change_needs_none_to_read(context: AppContext, as_: SignIn) -> None:
    rights = [f"sinas.states/prefs.{each}:own" for each in ("create", "update", "delete")]
    client = await as_(await make_user(context, roles=(), permissions=rights))
    made = await make(client)
    one = f"{PATH}/{made['id']}"
    assert (await client.get(one)).status_code == 403
    assert (await client.put(one, json={"value": 2})).json()["value"] == 2
    assert (await client.delete(one)).status_code == 200


async def test_one_namespace_is_not_another(context: AppContext, as_: SignIn) -> None:
    rights = [f"sinas.states/prefs.{each}:own" for each in ("create", "read", "update", "delete")]
    client = await as_(await make_user(context, roles=(), permissions=rights))
    user = await as_("user")
    hidden = await make(user, namespace="other", visibility="public")
    await make(user, visibility="public")
    assert await keys(client) == ["theme"]
    assert (await client.get(PATH, params={"namespace": "other"})).status_code == 403
    assert (await client.get(f"{PATH}/{hidden['id']}")).status_code == 404
    body = {"namespace": "other", "key": "k", "value": 1}
    refused = await client.post(PATH, json=body)
    assert refused.status_code == 403
    assert "'sinas.states/other.create:own'" in refused.json()["detail"]


async def test_a_new_namespace_takes_the_right_to_begin_it(
    context: AppContext, as_: SignIn
) -> None:
    rights = ["sinas.stores/*/*.write_state:own"]
    client = await as_(await make_user(context, roles=(), permissions=rights))
    body = {"namespace": "prefs", "key": "k", "value": 1}
    refused = await client.post(PATH, json=body)
    assert refused.status_code == 403
    assert "'sinas.stores/prefs/default.create:own'" in refused.json()["detail"]
    await make(await as_("user"))
    assert (await client.post(PATH, json=body)).status_code == 201


async def test_administrators_see_and_change_everybodys(as_: SignIn) -> None:
    user, admin = await as_("user"), await as_("admin")
    made = await make(user)
    one = f"{PATH}/{made['id']}"
    assert await keys(admin) == ["theme"]
    assert (await admin.get(one)).json() == made
    changed = (await admin.put(one, json={"value": 2, "encrypted": True})).json()
    assert (changed["value"], changed["user_id"]) == (2, made["user_id"])
    assert (await admin.delete(one)).status_code == 200


async def test_nobody_without_a_right(as_: SignIn) -> None:
    made = await make(await as_("user"), visibility="public")
    for client in (await as_("guest"), await as_("nobody"), await as_.key("user", [])):
        body = {"namespace": "prefs", "key": "k", "value": 1}
        answers = [
            await client.post(PATH, json=body),
            await client.get(PATH),
            await client.get(f"{PATH}/{made['id']}"),
            await client.put(f"{PATH}/{made['id']}", json={"value": 2}),
            await client.delete(f"{PATH}/{made['id']}"),
        ]
        assert {answer.status_code for answer in answers} == {403}
