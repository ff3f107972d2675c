"""Rules of agents beyond what every resource has in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from sinas.models import Agent
from tests.factories.chats import make_agent
from tests.factories.llm import make_provider

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/agents"
DEFAULTS: dict[str, Any] = {
    "namespace": "default",
    "description": None,
    "llm_provider_id": None,
    "model": None,
    "temperature": 0.7,
    "max_tokens": None,
    "system_prompt": None,
    "input_schema": {},
    "output_schema": {},
    "initial_messages": None,
    "enabled_functions": [],
    "enabled_agents": [],
    "enabled_skills": [],
    "function_parameters": {},
    "status_templates": {},
    "enabled_queries": [],
    "query_parameters": {},
    "enabled_stores": [],
    "enabled_collections": [],
    "enabled_components": [],
    "enabled_connectors": [],
    "hooks": None,
    "icon": None,
    "icon_url": None,
    "is_active": True,
    "is_default": False,
    "default_job_timeout": None,
    "default_keep_alive": False,
    "system_tools": [],
    "tool_approvals": {},
    "provider_overrides": {},
}


LONG_TEMPLATE = "{{ a }}" + "x" * 9_994


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(PATH, json={"name": "a", **body})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_defaults(as_: SignIn) -> None:
    client = await as_()
    body = await create(client, name="plain")
    named = {"id", "name", "user_id", "created_at", "updated_at"}
    assert {k: v for k, v in body.items() if k not in named} == DEFAULTS
    assert body["user_id"] == str((await as_.user()).id)
    assert (await client.get(f"{PATH}/default/plain")).json() == body


async def test_short_forms_are_read_back_whole(as_: SignIn) -> None:
    body = await create(
        await as_(),
        enabled_skills=["a/b", {"skill": "a/c", "preload": True}],
        enabled_stores=["a/s"],
        enabled_collections=[{"collection": "a/f", "access": "readwrite"}],
        enabled_connectors=[{"connector": "a/c"}],
        hooks={"on_user_message": [{"function": "a/h", "async": True}]},
        system_tools=["codeExecution", {"name": "databaseIntrospection", "connections": ["x"]}],
        enabled_functions=["a/*", "*/*", "a/b_c"],
    )
    assert body["enabled_skills"] == [
        {"skill": "a/b", "preload": False},
        {"skill": "a/c", "preload": True},
    ]
    assert body["enabled_stores"] == [{"store": "a/s", "access": "readonly"}]
    assert body["enabled_collections"] == [{"collection": "a/f", "access": "readwrite"}]
    assert body["enabled_connectors"] == [{"connector": "a/c", "operations": [], "parameters": {}}]
    assert body["hooks"]["on_user_message"] == [
        {"function": "a/h", "async": True, "on_timeout": "passthrough", "hold_back": False}
    ]
    assert body["enabled_functions"] == ["a/*", "*/*", "a/b_c"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "1a"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"namespace": "with space"}, "namespace"),
        ({"temperature": 2.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"default_job_timeout": 0}, "default_job_timeout"),
        ({"input_schema": {"type": "strnig"}}, "input_schema"),
        ({"output_schema": {"properties": []}}, "output_schema"),
        ({"system_prompt": "Hello {{ name"}, "system_prompt"),
        ({"status_templates": {"function:a/b": "{% if %}"}}, "status_templates"),
        ({"initial_messages": [{"role": "user", "content": "{{"}]}, "initial_messages"),
        ({"initial_messages": [{"role": "tool", "content": "x"}]}, "initial_messages"),
        ({"system_prompt": "x" * 200_001}, "system_prompt"),
        ({"status_templates": {"function:a/b": "x" * 10_001}}, "status_templates"),
        ({"status_templates": {f"function:a/b{n}": "x" * 10_000 for n in range(21)}}, "together"),
        ({"initial_messages": [{"role": "user", "content": "x" * 200_001}]}, "initial_messages"),
        (
            {"initial_messages": [{"role": "user", "content": "x" * 100_001}] * 2},
            "initial_messages",
        ),
        ({"function_parameters": {"a/b": {"c": LONG_TEMPLATE}}}, "a/b.c: has 10001 characters"),
        (
            {"query_parameters": {"a/b": {"c": {"value": LONG_TEMPLATE, "locked": True}}}},
            "query_parameters",
        ),
        ({"query_parameters": {"a/b": {"c": "x" * 200_001}}}, "query_parameters"),
        (
            {
                "enabled_connectors": [
                    {"connector": "a/b", "parameters": {"o": {"c": LONG_TEMPLATE}}}
                ]
            },
            "enabled_connectors",
        ),
        ({"enabled_functions": ["noslash"]}, "enabled_functions"),
        ({"enabled_stores": [{"store": "a/b", "access": "all"}]}, "enabled_stores"),
        ({"llm_provider_id": "00000000-0000-7000-8000-000000000000"}, "llm_provider_id"),
        ({"hooks": {"on_user_message": [{"function": "a/b", "on_timeout": "x"}]}}, "hooks"),
        ({"modle": "x"}, "modle"),
        ({"description": "a\x00b"}, ""),
    ],
)
async def test_bad_values_are_named_and_change_nothing(
    context: AppContext, as_: SignIn, body: Any, field: str
) -> None:
    client = await as_()
    before = await create(client, name="kept")
    response = await client.post(PATH, json={"name": "a", **body})
    assert response.status_code == 422
    assert field in response.json()["detail"]
    response = await client.put(f"{PATH}/default/kept", json=body)
    assert response.status_code == 422
    assert (await client.get(f"{PATH}/default/kept")).json() == before
    async with context.sessions() as session:
        own = (await as_.user()).id
        names = await session.scalars(select(Agent.name).where(Agent.user_id == own))
        assert list(names) == ["kept"]


async def test_long_prompts_and_values_that_are_no_templates(as_: SignIn) -> None:
    client = await as_()
    long = {
        "system_prompt": "{{ a }}" + "x" * 199_993,
        "function_parameters": {"a/b": {"c": "x" * 200_000, "d": [LONG_TEMPLATE], "e": 7}},
        "initial_messages": [{"role": "user", "content": "x" * 100_000}] * 2,
    }
    body = await create(client, **long)
    assert {key: body[key] for key in long} == long


async def test_names_may_have_spaces_and_brackets(as_: SignIn) -> None:
    client = await as_()
    body = await create(client, name="Mail (v2): draft-it")
    found = await client.get(f"{PATH}/default/Mail (v2): draft-it")
    assert found.json() == body


async def test_only_one_agent_is_the_default(context: AppContext, as_: SignIn) -> None:
    admin = await as_("admin")
    assert (await admin.get("/agents/default")).json()["name"] == "default"
    await create(admin, name="first", is_default=True)
    assert (await admin.get("/agents/default")).json()["name"] == "first"
    await create(admin, name="second")
    await admin.put(f"{PATH}/default/second", json={"is_default": True})
    async with context.sessions() as session:
        names = await session.scalars(select(Agent.name).where(Agent.is_default))
        assert list(names) == ["second"]
    await admin.put(f"{PATH}/default/second", json={"is_default": False})
    answer = await admin.get("/agents/default")
    assert (answer.status_code, answer.json()["detail"]) == (404, "No default agent configured")


async def test_who_sees_the_default(context: AppContext, as_: SignIn) -> None:
    assert (await (await as_("nobody")).get("/agents/default")).status_code == 403


async def test_renaming(context: AppContext, as_: SignIn) -> None:
    client = await as_()
    await create(client, name="old")
    await create(client, name="taken")
    chat = (await client.post("/agents/default/old/chats", json={})).json()
    clash = await client.put(f"{PATH}/default/old", json={"name": "taken"})
    assert clash.status_code == 400
    renamed = await client.put(f"{PATH}/default/old", json={"name": "new", "namespace": "other"})
    assert (renamed.json()["namespace"], renamed.json()["name"]) == ("other", "new")
    assert (await client.get(f"{PATH}/default/old")).status_code == 404
    assert (await client.get(f"{PATH}/other/new")).status_code == 200
    kept = (await client.get(f"/chats/{chat['id']}")).json()
    assert (kept["agent_namespace"], kept["agent_name"]) == ("default", "old")
    assert kept["agent_id"] == renamed.json()["id"]


async def test_renaming_needs_the_right_to_the_new_name(context: AppContext, as_: SignIn) -> None:
    await make_agent(context, await as_.user(), namespace="shop", name="a")
    key = await as_.key("user", ["sinas.agents/shop/*.read:own", "sinas.agents/shop/*.update:own"])
    allowed = await key.put(f"{PATH}/shop/a", json={"description": "x"})
    assert allowed.status_code == 200
    refused = await key.put(f"{PATH}/shop/a", json={"namespace": "home"})
    assert refused.status_code == 403
    assert (await key.get(f"{PATH}/shop/a")).status_code == 200


async def test_the_default_agent_is_chosen_by_who_may_change_all(as_: SignIn) -> None:
    """Whoever names no agent talks to it: no user may put theirs in its place."""
    user, admin = await as_("user"), await as_("admin")
    answer = await user.post(PATH, json={"name": "mine", "is_default": True})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    await create(user, name="mine")
    assert (await user.put(f"{PATH}/default/mine", json={"is_default": True})).status_code == 403
    before = (await admin.get("/agents/default")).json()["name"]
    assert before != "mine"
    assert (await admin.put(f"{PATH}/default/mine", json={"is_default": True})).status_code == 200
    # Its owner may still send back what they read.
    again = await user.put(f"{PATH}/default/mine", json={"is_default": True, "description": "x"})
    assert again.json()["description"] == "x"


async def test_deleting_frees_the_name_and_keeps_the_chats(
    context: AppContext, as_: SignIn
) -> None:
    client = await as_()
    first = await create(client, name="a")
    await (await as_("admin")).put(f"{PATH}/default/a", json={"is_default": True})
    chat = (await client.post("/agents/default/a/chats", json={})).json()
    assert (await client.delete(f"{PATH}/default/a")).status_code == 204
    assert (await client.get(f"{PATH}/default/a")).status_code == 404
    assert (await client.post("/agents/default/a/chats", json={})).status_code == 404
    assert all(agent["name"] != "a" for agent in (await client.get(PATH)).json())
    assert (await client.get("/agents/default")).status_code == 404
    second = await create(client, name="a")
    assert second["id"] != first["id"]
    kept = (await client.get(f"/chats/{chat['id']}")).json()
    assert (kept["agent_id"], kept["agent_name"]) == (first["id"], "a")


async def test_a_deleted_provider_cannot_be_chosen(context: AppContext, as_: SignIn) -> None:
    provider = await make_provider(context, "http://127.0.0.1:1/v1")
    client, admin = await as_(), await as_("admin")
    body = await create(client, name="a", llm_provider_id=str(provider.id))
    assert body["llm_provider_id"] == str(provider.id)
    await admin.delete(f"/api/v1/llm-providers/{provider.id}")
    refused = await client.post(PATH, json={"name": "b", "llm_provider_id": str(provider.id)})
    assert refused.status_code == 422
    # The agent that has it stays editable otherwise.
    assert (await client.put(f"{PATH}/default/a", json={"description": "x"})).status_code == 200


async def test_null_empties_what_may_be_empty(as_: SignIn) -> None:
    client = await as_()
    await create(client, model="m", system_prompt="p", temperature=0.1, max_tokens=5)
    body = {"model": None, "system_prompt": None, "temperature": None, "max_tokens": None}
    changed = (await client.put(f"{PATH}/default/a", json=body)).json()
    assert (changed["model"], changed["system_prompt"], changed["max_tokens"]) == (None,) * 3
    assert changed["temperature"] == 0.1


@pytest.mark.parametrize("path", ["/agents", "/discovery/agents"])
async def test_discovery_lists_active_agents(context: AppContext, as_: SignIn, path: str) -> None:
    client = await as_()
    await create(client, name="mine")
    await create(client, name="off")
    await client.put(f"{PATH}/default/off", json={"is_active": False})
    await make_agent(context, await as_.user("somebody"), name="theirs")
    names = [agent["name"] for agent in (await client.get(path)).json()]
    assert "mine" in names
    assert "off" not in names
    assert ("theirs" in names) == ((await client.get(f"{PATH}/default/theirs")).status_code == 200)


@pytest.mark.parametrize(("wanted", "status"), [("nothing", 400), ("a/b", 404)])
async def test_discovery_for_an_application(as_: SignIn, wanted: str, status: int) -> None:
    client = await as_()
    assert (await client.get("/agents", params={"app": wanted})).status_code == status
    assert (await client.get("/agents", headers={"X-Application": wanted})).status_code == status


async def test_others_agents(context: AppContext, as_: SignIn) -> None:
    client, stranger = await as_(), await as_("stranger")
    await create(client, name="a")
    for method in ("PUT", "DELETE"):
        answer = await stranger.request(method, f"{PATH}/default/a", json={"description": "x"})
        assert answer.status_code in (403, 404)
    assert (await client.get(f"{PATH}/default/a")).json()["description"] is None
    assert (await (await as_("nobody")).post(PATH, json={"name": "b"})).status_code == 403


async def test_several_may_become_the_default_at_once(as_: SignIn) -> None:
    admin = await as_("admin")
    answers = await asyncio.gather(  # noqa: TID251 - both at once is the point
        *(admin.post(PATH, json={"name": f"a{n}", "is_default": True}) for n in range(5))
    )
    assert [a.status_code for a in answers] == [201] * 5
    marked = [a for a in (await admin.get(PATH)).json() if a["is_default"]]
    assert len(marked) == 1
    assert (await admin.get("/agents/default")).json()["name"].startswith("a")


async def test_what_a_change_leaves_out_inside_has_its_default(as_: SignIn) -> None:
    """As at the creation: what is not said of an enabled skill is the same both times."""
    client = await as_()
    enabled = {
        "enabled_skills": ["default/s"],
        "enabled_stores": ["default/s"],
        "enabled_collections": ["default/c"],
        "enabled_connectors": [{"connector": "default/c"}],
        "tool_approvals": {"rules": []},
    }
    made = await create(client, name="made", **enabled)
    await create(client, name="changed")
    changed = await client.put(f"{PATH}/default/changed", json=enabled)
    assert changed.status_code == 200, changed.text
    assert {key: changed.json()[key] for key in enabled} == {key: made[key] for key in enabled}
    assert made["enabled_skills"] == [{"skill": "default/s", "preload": False}]
