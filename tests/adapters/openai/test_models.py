"""Which models a caller is shown and may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import openai
import pytest

from sinas.resources.llm_providers.use import use_permission
from tests.adapters.openai.support import BASE, HELLO, Clients
from tests.factories.identity import make_user

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter


async def ids(client: openai.AsyncOpenAI) -> list[str]:
    return [model.id for model in (await client.models.list()).data]


@pytest.fixture
async def everything(clients: Clients) -> None:
    await clients.agent("bot")
    await clients.agent("my bot (v2)")
    await clients.agent("old", is_active=False)
    await clients.provider(config={"models": ["words-50", "echo", 3]})
    await clients.provider("off", default_model="x", is_active=False)
    await clients.provider("empty", default_model=None, config={"models": "words-50"})


@pytest.mark.usefixtures("everything")
async def test_the_list(clients: Clients) -> None:
    client = await clients()

    found = (await client.models.list()).data

    assert [(model.id, model.owned_by) for model in found] == [
        ("agent:default/default", "sinas-agent"),  # every installation starts with it
        ("agent:shop/bot", "sinas-agent"),
        ("agent:shop/my bot (v2)", "sinas-agent"),
        ("mine/echo", "sinas-provider-mine"),
        ("mine/words-50", "sinas-provider-mine"),
    ]
    assert {model.object for model in found} == {"model"}
    assert all(model.created > 1_700_000_000 for model in found)


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("agent:shop/bot", "agent:shop/bot"),
        ("shop/bot", "agent:shop/bot"),
        ("shop/my bot (v2)", "agent:shop/my bot (v2)"),
        ("mine/echo", "mine/echo"),
        ("words-50", "mine/words-50"),
    ],
)
async def test_one_of_them(clients: Clients, asked: str, named: str) -> None:
    client = await clients()
    plain = await clients.as_("admin", live=clients.url.removesuffix(BASE))

    assert (await client.models.retrieve(asked)).id == named
    for path in (asked, quote(asked, safe="/"), quote(asked, safe="")):
        response = await plain.get(f"{BASE}/models/{path}")
        assert response.json()["id"] == named


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize(
    "name", ["nothing", "shop/nobody", "agent:shop/old", "agent:bot", "off/x", "mine/x", "agent:"]
)
async def test_none_of_that_name(clients: Clients, name: str) -> None:
    client = await clients()

    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve(name)
    assert (caught.value.code, caught.value.type) == ("model_not_found", "not_found_error")

    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model=name, messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.usefixtures("everything")
async def test_users_have_agents_and_no_models(clients: Clients) -> None:
    client = await clients("user")

    assert not [name for name in await ids(client) if name.startswith("mine/")]
    assert "agent:shop/bot" in await ids(client)
    # A user may chat with any agent, so these look as if they named one.
    for name in ("mine/echo", "mine/nothing"):
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=name, messages=HELLO)
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)
    for name in ("echo", "nothing"):
        with pytest.raises(openai.PermissionDeniedError, match=r"sinas\.llm_providers\.use:all"):
            await client.chat.completions.create(model=name, messages=HELLO)
    assert not clients.llm.requests


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize(
    ("permissions", "models"),
    [
        ([], []),
        (["sinas.llm_providers.read:all"], []),
        (["sinas.llm_providers.use:own"], []),
        (["sinas.llm_providers/mine/*.use:own"], []),
        (["sinas.llm_providers/other/*.use:all"], []),
        (["sinas.llm_providers.use:all"], ["mine/echo", "mine/words-50"]),
        (["sinas.llm_providers.*:all"], ["mine/echo", "mine/words-50"]),
        (["sinas.llm_providers/*/*.use:all"], ["mine/echo", "mine/words-50"]),
        (["sinas.llm_providers/mine/words-50.use:all"], ["mine/words-50"]),
        (["sinas.agents/shop/bot.chat:all"], ["agent:shop/bot"]),
        (["sinas.agents/shop/bot.chat:own"], []),
    ],
)
async def test_a_key_sees_what_it_may_use(
    clients: Clients, permissions: list[str], models: list[str]
) -> None:
    client = await clients("admin", permissions)

    assert await ids(client) == models
    for name in ("mine/echo", "mine/words-50", "agent:shop/bot"):
        if name in models:
            assert (await client.models.retrieve(name)).id == name
            continue
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)
        with pytest.raises((openai.PermissionDeniedError, openai.NotFoundError)):
            await client.chat.completions.create(model=name, messages=HELLO)


async def test_refusals_tell_nothing(clients: Clients) -> None:
    """What there is and what there is not look the same to who may use neither."""
    await clients.agent("bot")
    await clients.provider()
    client = await clients("nobody")
    said = set()

    for name in ("shop/bot", "shop/nobody", "mine/echo", "mine/nothing", "agent:shop/bot"):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat.completions.create(model=name, messages=HELLO)
        said.add(str(caught.value.message).replace(name, "?").replace(name.split("/")[1], "?"))
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)

    assert len(said) <= 4
    assert await ids(client) == []


async def test_role_and_key_may_say_it_differently(clients: Clients, context: AppContext) -> None:
    await clients.provider()
    user = await make_user(context, permissions=["sinas.llm_providers/*/*.use:all"])

    client = await clients(user, ["sinas.llm_providers.use:all"])

    assert await ids(client) == ["mine/echo"]


async def test_a_provider_comes_before_an_agent_of_the_same_name(clients: Clients) -> None:
    """Nobody can put an agent of theirs in the place of a model that is listed."""
    await clients.provider()
    await clients.agent("echo", namespace="mine", system_prompt="I am the agent", model="words-50")
    client = await clients()
    user = await clients("user")

    completion = await client.chat.completions.create(model="mine/echo", messages=HELLO)

    assert completion.choices[0].message.content == "hello"
    assert (await client.models.retrieve("mine/echo")).id == "mine/echo"
    assert (await user.models.retrieve("mine/echo")).id == "agent:mine/echo"
    assert (await client.models.retrieve("agent:mine/echo")).id == "agent:mine/echo"


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "gpt-4.1", "sinas.llm_providers/openai/gpt-4.1.use:all"),
        ("o", "llama3:8b", "sinas.llm_providers/o/llama3%3A8b.use:all"),
        ("a/b", "c/d", "sinas.llm_providers/a%2Fb/c%2Fd.use:all"),
        ("a b", "*", "sinas.llm_providers/a%20b/%2A.use:all"),
    ],
)
async def test_a_role_can_grant_any_model(
    clients: Clients, as_: SignIn, provider: str, model: str, key: str
) -> None:
    """The key of every name can be stored in a role, and grants that model and no other."""
    assert use_permission(provider, model) == key
    await clients.provider(provider, default_model=model, config={"models": ["another"]})
    admin = await as_("admin")
    assert (await admin.post("/api/v1/roles", json={"name": "r"})).status_code == 201
    body: dict[str, Any] = {"permission_key": key, "permission_value": True}
    granted = await admin.post("/api/v1/roles/r/permissions", json=body)
    assert granted.status_code in (200, 201), granted.text
    user = await as_.user("nobody")
    added = await admin.post("/api/v1/roles/r/members", json={"user_id": str(user.id)})
    assert added.is_success, added.text

    assert await ids(await clients("nobody")) == [f"{provider}/{model}"]


async def test_listing_asks_three_times(clients: Clients, query_counter: QueryCounter) -> None:
    for number in range(5):
        await clients.agent(f"bot{number}")
        await clients.provider(f"p{number}")
    plain = await clients.as_("admin", live=clients.url.removesuffix(BASE))

    with query_counter() as queries:
        response = await plain.get(f"{BASE}/models")

    assert len(response.json()["data"]) >= 10
    assert queries.count == 3, queries.statements
