"""Webhooks of agents, with a real agent worker and a scripted model."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from sinas.context import AppContext
from sinas.models import Agent, Chat, User
from sinas.worker import RunningWorker
from tests.factories.chats import make_agent
from tests.factories.llm import make_provider
from tests.factories.webhooks import make_webhook
from tests.fixtures.client import SignIn
from tests.support.llm_script import Answer
from tests.support.llm_upstream import LlmUpstream


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("owner")


@pytest.fixture
async def agent(
    context: AppContext, owner: User, llm: LlmUpstream, agent_worker: RunningWorker
) -> Agent:
    """Says what it is told."""
    provider = await make_provider(context, llm.openai_url)
    return await make_agent(context, owner, provider=provider, name="parrot")


async def chats(context: AppContext) -> list[Chat]:
    async with context.sessions() as session:
        return list((await session.scalars(select(Chat).order_by(Chat.id))).all())


async def status(as_: SignIn, path: str) -> dict[str, Any]:
    rows = await (await as_("owner")).get(f"/api/v1/webhooks/{path}/deliveries")
    found: dict[str, Any] = rows.json()[0]
    return found


async def test_a_sync_call_answers_the_reply(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    await make_webhook(context, owner, agent, path="a")
    answer = await client.post("/webhooks/a", content=b"hello there")
    [chat] = await chats(context)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"success": True, "chat_id": str(chat.id), "reply": "hello there"}
    assert chat.user_id == owner.id
    row = await status(as_, "a")
    assert (row["status"], row["chat_id"], row["execution_id"]) == (
        "succeeded",
        str(chat.id),
        None,
    )


async def test_an_async_call_answers_what_to_look_for(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    await make_webhook(context, owner, agent, path="a", response_mode="async")
    answer = await client.post("/webhooks/a", content=b"later")
    assert (answer.status_code, answer.json().keys()) == (202, {"chat_id", "job_id"})
    async with asyncio.timeout(20):
        while (row := await status(as_, "a"))["status"] != "succeeded":
            await asyncio.sleep(0.02)
    assert (row["chat_id"], row["job_id"]) == (answer.json()["chat_id"], answer.json()["job_id"])
    seen = await (await as_("owner")).get(f"/chats/{answer.json()['chat_id']}")
    assert [m["content"] for m in seen.json()["messages"]] == ["later", "later"]
    job = await (await as_("owner")).get(f"/jobs/{answer.json()['job_id']}")
    assert job.json()["status"] == "completed"


@pytest.mark.parametrize(
    ("template", "payload", "message"),
    [
        (None, {"a": 1}, '{"a":1}'),
        ("Push by {{ who.name }}", {"who": {"name": "Ann"}}, "Push by Ann"),
        ("All: {{ payload.a }}", {"a": 1}, "All: 1"),
        ("Hello {{ nobody }}.", {"a": 1}, 'Hello .\n\n{"a":1}'),
        ("{{ nobody.at.all }}", {"a": 1}, '{"a":1}'),
        ("{% if a == 2 %}two{% endif %}", {"a": 1}, '{"a":1}'),
    ],
)
async def test_the_message_is_the_template_or_the_payload(
    context: AppContext,
    client: httpx.AsyncClient,
    owner: User,
    agent: Agent,
    template: str | None,
    payload: dict[str, Any],
    message: str,
) -> None:
    await make_webhook(context, owner, agent, path="a", message_template=template)
    answer = await client.post("/webhooks/a", json=payload)
    assert (answer.status_code, answer.json().get("reply")) == (200, message), answer.text


async def test_a_template_that_fails_says_so(
    context: AppContext, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    await make_webhook(context, owner, agent, path="a", message_template="{{ 1 / payload.a }}")
    answer = await client.post("/webhooks/a", json={"a": 0})
    assert answer.status_code == 422
    assert "division by zero" in answer.json()["detail"]
    assert await chats(context) == []


async def test_one_chat_for_each_session_key(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    template = "{{ room }}"
    await make_webhook(context, owner, agent, path="a", session_key_template=template)
    await make_webhook(context, owner, agent, path="b", session_key_template=template)
    # A session of the owner's own that has the name senders choose.
    own = {"message": "mine", "session_key": "1"}
    await (await as_("owner")).post("/agents/default/parrot/invoke", json=own)

    async def call(path: str, room: Any) -> str:
        answer = await client.post(f"/webhooks/{path}", json={"room": room})
        assert answer.status_code == 200, answer.text
        chat_id: str = answer.json()["chat_id"]
        return chat_id

    first = await call("a", 1)
    assert await call("a", 1) == first
    assert await call("a", "x" * 500) == await call("a", "x" * 500)
    assert len({first, await call("a", 2), await call("b", 1)}) == 3
    assert await call("a", "") != await call("a", "")
    assert len(await chats(context)) == 1 + 4 + 2


async def test_who_signs_in_has_chats_of_their_own(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    columns = {"requires_auth": True, "session_key_template": "same"}
    await make_webhook(context, owner, agent, path="a", **columns)
    assert (await client.post("/webhooks/a", json={})).status_code == 401
    found = set()
    for who in ("owner", "other"):
        answer = await (await as_(who)).post("/webhooks/a", json={"x": 1})
        assert answer.status_code == 200, answer.text
        found.add(answer.json()["chat_id"])
    assert len(found) == 2
    assert {chat.user_id for chat in await chats(context)} == {
        owner.id,
        (await as_.user("other")).id,
    }
    no_chats = await as_.key("other", ["sinas.executions.read:own"])
    assert (await no_chats.post("/webhooks/a", json={})).status_code == 403


async def test_a_model_that_fails(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    agent: Agent,
    llm: LlmUpstream,
) -> None:
    dedup = {"key": "$.id", "ttl_seconds": 60}
    await make_webhook(context, owner, agent, path="a", dedup=dedup)
    llm.script("echo", [Answer(status=400), Answer(chunks=("fine",))])
    answer = await client.post("/webhooks/a", json={"id": 1})
    assert answer.status_code == 502, answer.text
    assert (await status(as_, "a"))["status"] == "failed"
    # Which does not block the next try; a repetition of that one gets its answer.
    good = await client.post("/webhooks/a", json={"id": 1})
    again = await client.post("/webhooks/a", json={"id": 1})
    assert good.status_code == 200
    assert again.json() == good.json()
    assert (await status(as_, "a"))["status"] == "duplicate"


async def test_a_delivery_can_be_sent_again(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User, agent: Agent
) -> None:
    await make_webhook(context, owner, agent, path="a")
    await client.post("/webhooks/a", content=b"twice")
    row = await status(as_, "a")
    url = f"/api/v1/webhooks/a/deliveries/{row['id']}/replay"
    answer = await (await as_("owner")).post(url)
    assert answer.status_code == 202, answer.text
    assert answer.json()["chat_id"] != row["chat_id"]
    async with asyncio.timeout(20):
        while (await status(as_, "a"))["status"] != "succeeded":
            await asyncio.sleep(0.02)
    assert (await status(as_, "a"))["job_id"] == answer.json()["job_id"]
