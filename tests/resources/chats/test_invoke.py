"""Invoke: one call, one reply, with or without a session."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from sinas.models import Chat
from tests.chat.support import Talks
from tests.factories.chats import make_agent
from tests.factories.llm import make_provider
from tests.support.llm_script import Answer, words

pytestmark = pytest.mark.usefixtures("agent_worker")


async def agent(talks: Talks, **columns: Any) -> None:
    provider = await make_provider(talks.context, talks.llm.openai_url)
    await make_agent(talks.context, await talks.as_.user(), provider=provider, name="a", **columns)


async def invoke(client: httpx.AsyncClient, message: Any = "hello", **body: Any) -> httpx.Response:
    return await client.post("/agents/default/a/invoke", json={"message": message, **body})


async def chats(talks: Talks) -> list[Chat]:
    async with talks.context.sessions() as session:
        return list((await session.scalars(select(Chat).order_by(Chat.id))).all())


async def test_one_shot(talks: Talks) -> None:
    await agent(talks)
    client = await talks.as_()
    first, second = await invoke(client, "one two"), await invoke(client)
    body = first.json()
    assert first.status_code == 200
    assert set(body) == {
        "reply", "chat_id", "session_key", "usage", "status", "pending_inputs",
        "pending_approvals", "channel_id",
    }  # fmt: skip
    assert (body["reply"], body["session_key"], body["status"]) == ("one two", None, "completed")
    assert body["usage"]["calls"] == 1
    assert body["chat_id"] != second.json()["chat_id"]
    assert [chat.title for chat in await chats(talks)] == ["invoke:one-shot"] * 2


async def test_what_the_input_leaves_out_has_its_default(talks: Talks) -> None:
    properties = {"name": {"type": "string"}, "lang": {"type": "string", "default": "Dutch"}}
    schema = {"type": "object", "properties": properties}
    prompt = "For {{ name }} in {{ lang }}{{ user.custom_fields.get('title', '') }}."
    await agent(talks, system_prompt=prompt, input_schema=schema)
    client = await talks.as_()
    for given, said in (
        ({"name": "Ann"}, "For Ann in Dutch."),
        ({"name": "Ann", "lang": "Greek"}, "For Ann in Greek."),
    ):
        answer = await invoke(client, input=given)
        assert answer.status_code == 200, answer.text
        assert talks.llm.requests[-1].body["messages"][0]["content"] == said


async def test_a_session_is_one_conversation(talks: Talks) -> None:
    await agent(talks, system_prompt="For {{ name }}.")
    client = await talks.as_()
    first = await invoke(client, session_key="s", input={"name": "Ann"})
    second = await invoke(client, "again", session_key="s", input={"name": "Bob"})
    assert first.json()["chat_id"] == second.json()["chat_id"]
    assert second.json()["session_key"] == "s"
    contents = [m["content"] for m in talks.llm.requests[-1].body["messages"]]
    assert contents == ["For Ann.", "hello", "hello", "again"]
    (chat,) = await chats(talks)
    assert (chat.title, chat.session_key) == ("invoke:s", "s")
    assert (await client.get(f"/chats/{chat.id}")).json()["session_key"] == "s"


async def test_reset_archives_and_begins_anew(talks: Talks) -> None:
    await agent(talks)
    client = await talks.as_()
    old = (await invoke(client, session_key="s")).json()["chat_id"]
    new = (await invoke(client, session_key="s", reset=True)).json()["chat_id"]
    assert old != new
    assert (await invoke(client, session_key="s")).json()["chat_id"] == new
    assert {str(c.id): c.archived for c in await chats(talks)} == {old: True, new: False}
    assert len(talks.llm.requests[1].body["messages"]) == 1
    restored = await client.put(f"/chats/{old}", json={"archived": False})
    assert restored.status_code == 409


@pytest.mark.parametrize("reset", [False, True])
async def test_somebody_elses_session_is_left_alone(talks: Talks, reset: bool) -> None:
    await agent(talks)
    client, stranger = await talks.as_(), await talks.as_("stranger")
    await invoke(client, session_key="s")
    answer = await invoke(stranger, session_key="s", reset=reset)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "Not authorized to use this session"
    (chat,) = await chats(talks)
    assert chat.archived is False
    assert len(talks.llm.requests) == 1


async def test_parallel_calls_of_a_new_session_share_one_chat(talks: Talks) -> None:
    await agent(talks, initial_messages=[{"role": "assistant", "content": "welcome"}])
    client = await talks.as_()
    answers = await asyncio.gather(  # noqa: TID251 - all at once is the point
        *(invoke(client, f"m{n}", session_key="s") for n in range(6))
    )
    assert [a.status_code for a in answers] == [200] * 6, [a.text for a in answers]
    assert len({a.json()["chat_id"] for a in answers}) == 1
    states = [a.json()["status"] for a in answers]
    assert set(states) <= {"completed", "injected"}
    assert "completed" in states
    assert all(a.json()["reply"] for a in answers if a.json()["status"] == "completed")
    (chat,) = await chats(talks)
    detail = (await client.get(f"/chats/{chat.id}")).json()
    said = [m["content"] for m in detail["messages"] if m["role"] == "user"]
    assert sorted(said) == [f"m{n}" for n in range(6)]


async def test_input_is_checked_before_anything_is_made(talks: Talks) -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    await agent(talks, input_schema=schema)
    client = await talks.as_()
    answer = await invoke(client, session_key="s", input={})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Input validation failed")
    assert await chats(talks) == []


async def test_parts_are_a_message_too(talks: Talks) -> None:
    await agent(talks)
    answer = await invoke(await talks.as_(), [{"type": "text", "text": "hi there"}])
    assert answer.json()["reply"] == "hi there"


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (Answer(status=400), 502, "HTTP 400"),
        (Answer(chunks=("a", "b"), hold_after=1), 504, "timed out"),
    ],
)
async def test_failures_and_the_next_call(
    talks: Talks, answer: Answer, status: int, says: str
) -> None:
    talks.llm.script("echo", [answer])
    await agent(talks, default_job_timeout=1)
    client = await talks.as_()
    failed = await invoke(client, session_key="s")
    assert failed.status_code == status
    assert says in failed.json()["detail"]
    talks.llm.script("echo", [words(2)])
    assert (await invoke(client, session_key="s")).json()["reply"] == words(2).text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": ""},
        {"message": "x", "session_key": ""},
        {"message": "x", "session_key": "k" * 256},
        {"message": "x", "input": "y"},
        {"message": "x", "more": 1},
    ],
)
async def test_bad_bodies(talks: Talks, body: Any) -> None:
    await agent(talks)
    client = await talks.as_()
    assert (await client.post("/agents/default/a/invoke", json=body)).status_code == 422
    assert await chats(talks) == []


async def test_agents_that_cannot_be_invoked(talks: Talks) -> None:
    await agent(talks, is_active=False)
    assert (await invoke(await talks.as_())).status_code == 404
    assert (await invoke(await talks.as_("nobody"))).status_code == 403
