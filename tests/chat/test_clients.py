"""Several clients of one turn, clients that come and go, and clients that come too late."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sinas.chat.channel import stream_key
from tests.chat.support import Live, Seen, Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call, words

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=tuple(f"w{n} " for n in range(10)), delay=0.01)
SAID = f"Let me look. {FINAL.text}"


async def with_tools(talks: Talks, live: str, **options: Any) -> Talk:
    """A turn of text, two calls side by side, and text again; slow enough to be watched."""
    user = await talks.as_.user()
    asks = options.pop("requires_approval", False)
    await make_function(talks.context, user, namespace="shop", name="find", requires_approval=asks)
    calls = tuple(Call("shop__find", f'{{"x": "{n}"}}', id=f"call_{n}") for n in range(2))
    first = Answer(chunks=("Let ", "me ", "look. "), calls=calls, delay=0.01)
    return await talks([first, FINAL], live=live, enabled_functions=["shop/find"], **options)


async def one_event(talk: Talk, channel: str, last_id: str, by_header: bool) -> Seen:
    """Connect, read one event behind `last_id`, and leave."""
    path = f"/chats/{talk.chat_id}/stream/{channel}"
    params = {} if by_header else {"last_id": last_id}
    headers = {"Last-Event-ID": last_id} if by_header else {}
    async with talk.client.stream("GET", path, params=params, headers=headers) as response:
        assert response.status_code == 200
        return await Live(response).read_until(lambda event: event.name != "ping")


async def test_a_client_that_reconnects_at_every_event(talks: Talks, live: str) -> None:
    """Half of the time by `last_id`, half of the time as a browser's EventSource does."""
    talk = await with_tools(talks, live)
    async with talk.streaming("go") as stream:
        seen = [await stream.read_until(lambda _: True)]
        channel = stream.channel
    while seen[-1].name not in ("done", "error"):
        event = await one_event(talk, channel, seen[-1].id, by_header=len(seen) % 2 == 0)
        assert event.id not in {earlier.id for earlier in seen}
        seen.append(event)
    assert seen[-1].data == {"status": "completed"}
    assert seen == await talk.replay(channel)
    assert text_of(seen) == SAID
    assert (await talk.messages())[-1] == ("assistant", FINAL.text)
    assert len(talks.llm.requests) == 2


async def test_two_clients_see_the_same_turn(talks: Talks, live: str) -> None:
    talk = await with_tools(talks, live)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(talk.streaming("go"))
        begun = await first.read_until(lambda _: True)
        late = await stack.enter_async_context(talk.following(first.channel))
        behind = await stack.enter_async_context(talk.following(first.channel, begun.id))
        async with asyncio.TaskGroup() as group:
            read = [group.create_task(each.rest()) for each in (first, late, behind)]
    whole, from_start, from_second = (task.result() for task in read)
    assert whole == from_start == [begun, *from_second]
    assert text_of(whole) == SAID


async def test_what_one_client_decides_the_other_sees(talks: Talks, live: str) -> None:
    talk = await with_tools(talks, live, requires_approval=True)
    phone = await talks.as_("user", live=live)
    async with talk.streaming("go") as desk:
        seen = await desk.rest()
    assert seen[-1].data == {"status": "suspended"}
    waiting = (await phone.get(f"/chats/{talk.chat_id}")).json()["pending_approvals"]
    assert [call["tool_call_id"] for call in waiting] == ["call_0", "call_1"]
    path = f"/chats/{talk.chat_id}/approve-tool"
    first = (await phone.post(f"{path}/call_0", json={"approved": True})).json()
    assert first["resume"] == "waiting"
    # Each decides one; who is late with a call that was decided is told so.
    assert (await talk.decide("call_0", approved=False)).status_code == 404
    second = (await talk.decide("call_1", approved=True)).json()
    assert second["resume"] == "queued"
    async with (
        talk.following(second["channel_id"]) as desk,
        Talk(talks.context, phone, talk.chat, talk.agent).following(second["channel_id"]) as other,
    ):
        rest = await desk.rest()
        assert await other.rest() == rest
    assert text_of(rest) == FINAL.text
    assert names(rest)[-1] == "done"


async def test_what_one_client_adds_the_other_sees_answered(talks: Talks, live: str) -> None:
    talk = await talks(
        [Answer(chunks=("one ", "two "), hold_after=1), words(2)], live=live, by="call"
    )
    phone = await talks.as_("user", live=live)
    async with talk.streaming("go") as desk:
        await desk.text("one ")
        added = await phone.post(f"/chats/{talk.chat_id}/messages", json={"content": "and this"})
        assert (added.json()["status"], added.json()["channel_id"]) == ("injected", desk.channel)
        talks.llm.release()
        seen = await desk.rest()
    assert text_of(seen) == f"one two {words(2).text}"
    assert [e.data for e in seen if e.name in ("done", "error")] == [{"status": "completed"}]
    assert [content for _, content in await talk.messages()] == [
        *("go", "and this", "one two ", words(2).text),
    ]


async def test_a_refresh_in_the_middle(talks: Talks, live: str) -> None:
    """A page that knows nothing but the chat's id."""
    talk = await talks(
        [Answer(chunks=("one ", "two ", "three"), hold_after=2)],
        live=live,
        chat={"keep_alive": True},
    )
    async with talk.streaming("go") as stream:
        await stream.text("two ")
    detail = await talk.detail()
    assert [m["content"] for m in detail["messages"]] == ["go"]
    async with talk.following(detail["active_channel_id"]) as page:
        await page.text("two ")
        talks.llm.release()
        assert text_of(await page.rest()) == "one two three"


async def test_a_refresh_after_the_end(talks: Talks, live: str) -> None:
    talk = await with_tools(talks, live)
    async with talk.streaming("go") as stream:
        seen = await stream.rest()
    detail = await talk.detail()
    assert [m["role"] for m in detail["messages"]] == [
        *("user", "assistant", "tool", "tool", "assistant"),
    ]
    shown = [m["content"] for m in detail["messages"] if m["role"] == "assistant"]
    assert "".join(shown) == SAID == text_of(seen)
    assert (detail["pending_approvals"], detail["pending_inputs"]) == ([], [])
    assert await talk.replay(detail["active_channel_id"]) == seen
    for last_id in (seen[-1].id, "9999999999999-0"):
        again = await talk.replay(detail["active_channel_id"], last_id)
        assert [event.data for event in again] == [{"status": "completed"}]


async def test_a_stop_after_a_reconnect(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("kept ", "never"), hold_after=1)], live=live)
    async with talk.streaming("go") as stream:
        await stream.text("kept ")
    async with talk.following(stream.channel, stream.seen[-1].id) as back:
        stopped = await talk.client.post(f"/chats/{talk.chat_id}/stop")
        assert stopped.json() == {"status": "stopping", "turns": 1}
        rest = await back.rest()
    assert [event.data for event in rest] == [{"status": "cancelled"}]
    await asyncio.wait_for(talks.llm.requests[-1].disconnected.wait(), 5)
    assert await talk.messages() == [("user", "go"), ("assistant", "kept ")]
    assert (await talk.client.post(f"/chats/{talk.chat_id}/stop")).json()["status"] == "idle"
    talks.llm.script("scripted", [words(2)])
    assert text_of(await talk.stream("go on")) == words(2).text


async def test_a_stop_by_another_client_ends_every_stream(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("kept ", "never"), hold_after=1)], live=live)
    phone = await talks.as_("user", live=live)
    async with talk.streaming("go") as desk, talk.following(desk.channel) as other:
        await desk.text("kept ")
        await phone.post(f"/chats/{talk.chat_id}/stop")
        async with asyncio.TaskGroup() as group:
            read = [group.create_task(each.rest()) for each in (desk, other)]
    for task in read:
        assert text_of(task.result()) == "kept "
        assert task.result()[-1].data == {"status": "cancelled"}


async def test_an_end_that_nobody_said_is_told_to_who_comes_later(
    talks: Talks, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may die between writing the end down and saying it."""
    talk = await with_tools(talks, live)
    async with talk.streaming("go") as stream:
        seen = await stream.rest()
    await talks.context.redis.xdel(stream_key(stream.channel), seen[-1].id)
    # Not because a silent stream looks every few seconds.
    monkeypatch.setattr("sinas.chat.follow._CHECK_SECONDS", 3600)
    monkeypatch.setitem(vars(talks.context.settings.chat), "ping_seconds", 3600)
    async with asyncio.timeout(20):
        for last_id, missed in (("0", len(seen)), (seen[-3].id, 2)):
            again = await talk.replay(stream.channel, last_id)
            assert [event.data for event in again] == [event.data for event in seen[-missed:]]
