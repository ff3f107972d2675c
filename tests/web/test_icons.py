"""Icons of agents and functions: addresses, and files as each caller may have them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.chats import make_agent
from tests.factories.files import make_collection
from tests.factories.functions import make_function
from tests.factories.identity import make_user

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
ICON = "collection:brand/icons/logo.png"
LISTS = ("/api/v1/agents", "/api/v1/functions", "/agents", "/functions", "/discovery/agents")
BOTH = ("/api/v1/agents/default/a", "/api/v1/functions/default/f")


@pytest.fixture(autouse=True)
async def icons(context: AppContext, as_: SignIn) -> None:
    await make_collection(context, await as_.user("admin"), namespace="brand", name="icons")


async def upload(client: httpx.AsyncClient, content: bytes = PNG, **more: Any) -> None:
    body = {"name": "logo.png", "content_type": "image/png", "visibility": "shared", **more}
    body["content_base64"] = base64.b64encode(content).decode()
    answer = await client.post("/files/brand/icons", json=body)
    assert answer.status_code == 201, answer.text


async def agent_url(client: httpx.AsyncClient, name: str = "a") -> str | None:
    answer = await client.get(f"/api/v1/agents/default/{name}")
    assert answer.status_code == 200, answer.text
    url: str | None = answer.json()["icon_url"]
    return url


async def fetched(client: httpx.AsyncClient, url: str | None) -> bytes:
    assert url is not None
    answer = await client.get(url)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize(
    ("icon", "url"),
    [
        ("url:https://example.com/a.png", "https://example.com/a.png"),
        ("url:http://example.com/a.png", "http://example.com/a.png"),
        ("url:javascript:alert(1)", None),
        ("url:", None),
        ("a word", None),
        ("collection:", None),
        ("collection:brand/icons", None),
        ("collection:brand/icons/absent.png", None),
        ("collection:brand/absent/logo.png", None),
        ("collection:brand/icons/logo.png/more", None),
        ("", None),
        (None, None),
    ],
)
async def test_what_an_icon_may_be(as_: SignIn, icon: str | None, url: str | None) -> None:
    client = await as_("user")
    await upload(client)
    agent = {"name": "a", "icon": icon}
    function = {
        "name": "f",
        "code": "def handler(i, c): pass",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
        "icon": icon,
    }
    for path, body in (("agents", agent), ("functions", function)):
        answer = await client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        assert (answer.json()["icon"], answer.json()["icon_url"]) == (icon, url)


async def test_a_file_is_fetched_without_signing_in(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    owner = await as_.user("user")
    await upload(await as_("user"))
    await make_agent(context, owner, name="a", icon=ICON)
    await make_function(context, owner, name="f", icon=ICON)
    signed = await as_("user")
    await signed.put("/api/v1/agents/default/a", json={"is_default": True})
    answers = [await signed.get(path) for path in LISTS]
    urls = [one["icon_url"] for answer in answers for one in answer.json() if one["icon"] == ICON]
    answers = [await signed.get(path) for path in ("/agents/default", *BOTH)]
    answers += [await signed.put(path, json={"description": "d"}) for path in BOTH]
    urls += [answer.json()["icon_url"] for answer in answers]
    assert len(urls) == 10
    assert len(set(urls)) <= 2  # another one begins with each hour
    assert "/files/serve/" in urls[0]
    assert await fetched(client, urls[0]) == PNG


async def test_of_a_public_collection_the_lasting_address(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    admin = await as_.user("admin")
    await make_collection(context, admin, namespace="open", name="icons", is_public=True)
    body = {"name": "l\u00f6go 1.png", "content_type": "image/png", "visibility": "shared"}
    body["content_base64"] = base64.b64encode(PNG).decode()
    await (await as_("admin")).post("/files/open/icons", json=body)
    # The accent as a letter and a mark, as some keyboards write it.
    await make_agent(context, admin, name="a", icon="collection:open/icons/lo\u0308go 1.png")
    reader = await make_user(context, roles=(), permissions=["sinas.agents/*/*.read:all"])
    url = await agent_url(await as_(reader))
    assert url is not None
    assert url.endswith("/files/public/open/icons/l%C3%B6go%201.png")
    assert await fetched(client, url) == PNG


async def test_an_icon_gives_no_right_to_a_file(context: AppContext, as_: SignIn) -> None:
    """Naming somebody's private file in one's own agent does not open it."""
    await upload(await as_("victim"), b"secret", visibility="private")
    await make_agent(context, await as_.user("thief"), name="a", icon=ICON)
    assert await agent_url(await as_("thief")) is None
    assert await agent_url(await as_("admin")) is None


async def test_who_may_not_read_the_collection_gets_none(context: AppContext, as_: SignIn) -> None:
    await upload(await as_("user"))
    await make_agent(context, await as_.user("user"), name="a", icon=ICON)
    may = ["sinas.agents/*/*.read:all"]
    assert await agent_url(await as_(await make_user(context, roles=(), permissions=may))) is None
    may.append("sinas.collections/brand/icons.download:own")
    assert await agent_url(await as_(await make_user(context, roles=(), permissions=may)))


async def test_ones_own_file_before_the_shared_one(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    await upload(await as_("user"), b"mine", visibility="private")
    await upload(await as_("other"), b"everybody's")
    await make_agent(context, await as_.user("admin"), name="a", icon=ICON)
    reader = {who: await as_(who) for who in ("user", "admin")}
    assert await fetched(client, await agent_url(reader["user"])) == b"mine"
    assert await fetched(client, await agent_url(reader["admin"])) == b"everybody's"


async def test_a_new_version_is_the_icon_at_once(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    user = await as_("user")
    await upload(user, b"old")
    await make_agent(context, await as_.user("user"), name="a", icon=ICON)
    before = await agent_url(user)
    await upload(user, b"new", update_existing=True)
    after = await agent_url(user)
    assert await fetched(client, after) == b"new"
    assert before != after
    await user.delete("/files/brand/icons/logo.png")
    assert await agent_url(user) is None


async def test_all_icons_of_a_list_are_one_statement(
    context: AppContext, as_: SignIn, query_counter: QueryCounter
) -> None:
    user = await as_("user")
    for n in range(3):
        await upload(user, name=f"{n}.png")
    for n in range(9):
        icon = f"collection:brand/icons/{n % 3}.png"
        await make_agent(context, await as_.user("user"), name=f"a{n}", icon=icon)
    with query_counter() as queries:
        answer = await user.get("/api/v1/agents")
    assert len({one["icon_url"] for one in answer.json() if one["icon"]}) == 3
    assert len(queries.statements) == 3, queries.statements  # caller, agents, icons
    for n in range(9):
        await user.put(f"/api/v1/agents/default/a{n}", json={"icon": "url:https://x.example/i"})
    with query_counter() as queries:
        await user.get("/api/v1/agents")
    assert len(queries.statements) == 2, queries.statements
