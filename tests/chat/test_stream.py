"""The stream of a turn, and following it again."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import httpx
import pytest

from sinas.chat.channel import stream_key
from tests.chat.support import Talks, names, parse_all, text_of
from tests.support.llm_script import Answer, words

pytestmark = pytest.mark.usefixtures("agent_worker")
WORDS = words(20).text


async def test_a_turn_streams_its_text_and_ends(talks: Talks) -> None:
    talk = await talks([words(20)])
    seen = await talk.stream()
    assert names(seen) == ["message", "done"]
    assert text_of(seen) == WORDS
    assert seen[-1].data == {"status": "completed"}
    assert seen[-2].data == {"content": None, "tool_calls": None, "finish_reason": "stop"}
    assert all(set(e.data) == {"content", "tool_calls", "finish_reason"} for e in seen[:-1])
    assert await talk.messages() == [("user", "hello"), ("assistant", WORDS)]


async def test_every_event_has_an_id_and_the_headers_name_the_channel(
    talks: Talks, live: str
) -> None:
    talk = await talks([words(5)], live=live)
    async with talk.streaming() as stream:
        seen = await stream.rest()
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.channel == (await talk.detail())["active_channel_id"]
    positions = [tuple(map(int, event.id.split("-"))) for event in seen]
    assert positions == sorted(set(positions))


async def test_replay_from_any_event_gives_exactly_the_rest(talks: Talks) -> None:
    talk = await talks([words(8, delay=0.03)])
    seen = await talk.stream()
    assert len(seen) > 5
    assert await talk.replay() == seen
    channel = (await talk.detail())["active_channel_id"]
    for number, event in enumerate(seen[:-1]):
        assert await talk.replay(channel, event.id) == seen[number + 1 :]
        response = await talk.client.get(
            f"/chats/{talk.chat_id}/stream/{channel}", headers={"Last-Event-ID": event.id}
        )
        assert parse_all(response.text) == seen[number + 1 :]


async def test_last_event_id_wins_over_last_id(talks: Talks) -> None:
    talk = await talks([words(3)])
    seen = await talk.stream()
    channel = (await talk.detail())["active_channel_id"]
    response = await talk.client.get(
        f"/chats/{talk.chat_id}/stream/{channel}?last_id=0",
        headers={"Last-Event-ID": seen[-2].id},
    )
    assert parse_all(response.text) == seen[-1:]


async def test_reconnecting_after_the_end_is_told_the_end_again(talks: Talks) -> None:
    talk = await talks([words(3)])
    last = (await talk.stream())[-1]
    again = await talk.replay(last_id=last.id)
    assert [event.name for event in again] == ["done"]
    assert again[0].data == {"status": "completed"}


async def test_a_stream_that_redis_has_forgotten_is_told_from_the_journal(talks: Talks) -> None:
    talk = await talks([words(3)])
    seen = await talk.stream()
    channel = (await talk.detail())["active_channel_id"]
    await talk.context.redis.delete(stream_key(channel))
    from_start = await talk.replay(channel)
    assert text_of(from_start) == words(3).text
    assert names(from_start) == ["message", "done"]
    assert names(await talk.replay(channel, seen[0].id)) == ["done"]


async def test_a_failed_turn_that_redis_has_forgotten_still_ends_in_its_error(
    talks: Talks,
) -> None:
    talk = await talks([Answer(status=500)])
    seen = await talk.stream()
    channel = (await talk.detail())["active_channel_id"]
    await talk.context.redis.delete(stream_key(channel))
    again = await talk.replay(channel)
    assert [(e.name, e.data) for e in again] == [(e.name, e.data) for e in seen[-1:]]


async def test_following_live_from_the_middle(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("one ", "two ", "three"), hold_after=2)], live=live)
    async with talk.streaming() as first:
        await first.text("two ")
        begun = list(first.seen)
        async with talk.following(first.channel, begun[-1].id) as second:
            talks.llm.release()
            rest = await second.rest()
        assert (await first.rest())[len(begun) :] == rest
    assert text_of(begun + rest) == "one two three"


async def test_a_second_follower_sees_all_of_it(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=live)
    async with talk.streaming() as first:
        await first.text("one ")
        async with talk.following(first.channel) as second:
            await second.text("one ")
            talks.llm.release()
            assert await second.rest() == await first.rest()


async def test_fast_text_is_joined_and_stays_whole(talks: Talks) -> None:
    answer = Answer(chunks=tuple(f"{n}·" for n in range(3000)))
    talk = await talks([answer])
    seen = await talk.stream()
    assert text_of(seen) == answer.text
    assert len(seen) < 1000
    assert await talk.messages() == [("user", "hello"), ("assistant", answer.text)]


async def test_silence_is_filled_with_pings_that_can_be_resumed_from(
    talks: Talks, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(talks.context.settings.chat), "ping_seconds", 0.1)
    talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=live)
    async with talk.streaming() as stream:
        ping = await stream.read_until(lambda event: event.name == "ping")
        assert ping.data is None
        await stream.text("one ")
        said = stream.seen[-1]
        ping = await stream.read_until(lambda event: event.name == "ping")
        assert ping.id == said.id
        async with talk.following(stream.channel, ping.id) as second:
            first_ping = await second.read_until(lambda _: True)
            assert (first_ping.name, first_ping.id) == ("ping", said.id)
            talks.llm.release()
            rest = [e for e in await second.rest() if e.name != "ping"]
    assert text_of(rest) == "two"


@pytest.mark.parametrize("last_id", ["x", "1-", "-1", "1-1-1", "9" * 30, "\u0661"])
async def test_an_id_that_is_none_is_refused(talks: Talks, last_id: str) -> None:
    talk = await talks([words(1)])
    await talk.stream()
    path = f"/chats/{talk.chat_id}/stream/{(await talk.detail())['active_channel_id']}"
    assert (await talk.client.get(path, params={"last_id": last_id})).status_code == 422
    header = [(b"Last-Event-ID", last_id.encode())]
    assert (await talk.client.get(path, headers=httpx.Headers(header))).status_code == 422


async def test_thinking_is_shown_to_those_who_ask(talks: Talks) -> None:
    answer = Answer(thinking=("let ", "me ", "see"), chunks=("yes",))
    talk = await talks([answer])
    hidden = await talk.stream()
    assert [e.data["thinking"] for e in hidden if "thinking" in (e.data or {})] == [""]
    shown = await talk.stream(include_thinking=True)
    thoughts = [e.data["thinking"] for e in shown if "thinking" in (e.data or {})]
    assert "".join(thoughts) == "let me see"
    assert text_of(hidden) == text_of(shown) == "yes"
    channel = (await talk.detail())["active_channel_id"]
    path = f"/chats/{talk.chat_id}/stream/{channel}?include_thinking=true"
    assert parse_all((await talk.client.get(path)).text) == shown
    assert await talk.messages() == [("user", "hello"), ("assistant", "yes")] * 2


async def test_who_may_follow_what(talks: Talks) -> None:
    mine, other = await talks([words(1)]), await talks([words(1)])
    await mine.stream()
    await other.stream()
    foreign_channel = (await other.detail())["active_channel_id"]
    path = f"/chats/{mine.chat_id}/stream/{foreign_channel}"
    assert (await mine.client.get(path)).status_code == 404
    own_path = f"/chats/{mine.chat_id}/stream/{(await mine.detail())['active_channel_id']}"
    stranger = await talks.as_("stranger")
    assert (await stranger.get(own_path)).status_code == 403
    assert (await stranger.get(f"/chats/{mine.chat_id}")).status_code == 404
    post = await stranger.post(f"/chats/{mine.chat_id}/messages/stream", json={"content": "x"})
    assert post.status_code == 403


async def test_leaving_stops_the_turn_and_the_upstream_and_keeps_the_text(
    talks: Talks, live: str
) -> None:
    talk = await talks([Answer(chunks=("kept ", "never"), hold_after=1)], live=live)
    async with talk.streaming() as stream:
        await stream.text("kept ")
    await asyncio.wait_for(talks.llm.requests[-1].disconnected.wait(), 15)
    turn = await talk.idle()
    assert turn.status == "cancelled"
    assert await talk.messages() == [("user", "hello"), ("assistant", "kept ")]
    replay = await talk.replay()
    assert text_of(replay) == "kept "
    assert replay[-1].data == {"status": "cancelled"}
    talks.llm.script("scripted", [words(2)])
    assert text_of(await talk.stream("again")) == words(2).text


async def test_coming_back_in_time_keeps_the_turn(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=live)
    async with talk.streaming() as stream:
        await stream.text("one ")
    async with talk.following(stream.channel, stream.seen[-1].id) as again:
        await asyncio.sleep(3)
        talks.llm.release()
        assert text_of(await again.rest()) == "two"
    assert (await talk.idle()).status == "completed"


async def test_a_second_follower_keeps_the_turn(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=live)
    async with talk.streaming() as stream:
        await stream.text("one ")
        second = talk.following(stream.channel)
        follower = await second.__aenter__()
        await follower.text("one ")
    await asyncio.sleep(3)
    talks.llm.release()
    assert text_of(await follower.rest()) == "one two"
    await second.__aexit__(None, None, None)
    assert (await talk.idle()).status == "completed"


async def test_keep_alive_turns_outlive_their_client(talks: Talks, live: str) -> None:
    answer = Answer(chunks=("one ", "two"), hold_after=1)
    talk = await talks([answer], live=live, chat={"keep_alive": True})
    async with talk.streaming() as stream:
        await stream.text("one ")
    await asyncio.sleep(3)
    talks.llm.release()
    assert (await talk.idle()).status == "completed"
    assert text_of(await talk.replay(stream.channel)) == "one two"


async def test_a_message_sent_while_a_turn_runs_goes_into_that_turn(
    talks: Talks, live: str
) -> None:
    talk = await talks([Answer(chunks=("to: ", "ready"), hold_after=1)], live=live)
    async with talk.streaming("first") as first:
        await first.text("to: ")
        async with talk.streaming("second") as second:
            assert second.channel == first.channel
            talks.llm.script("scripted", [Answer(chunks=("after",))])
            talks.llm.release()
            await first.rest()
            seen = await second.rest()
    assert seen[0].name == "injected"
    assert seen[0].data["channel_id"] == first.channel
    assert (seen[-1].name, text_of(seen)) == ("done", "readyafter")
    assert text_of(first.seen) == "to: readyafter"
    (turn,) = await talk.turns()
    assert (turn.status, turn.injected) == ("completed", 1)
    # What was said meanwhile comes before the answer it could not have seen.
    assert await talk.messages() == [
        ("user", "first"),
        ("user", "second"),
        ("assistant", "to: ready"),
        ("assistant", "after"),
    ]
    assert turn.usage["calls"] == 2


async def test_many_messages_at_once_are_all_answered(talks: Talks) -> None:
    talk = await talks(model="echo")
    answers = await asyncio.gather(  # noqa: TID251 - all at once is the point
        *(talk.stream(f"m{n}") for n in range(12))
    )
    assert all(seen[-1].data == {"status": "completed"} for seen in answers)
    turns = await talk.turns()
    spans = sorted((t.started_at, t.finished_at) for t in turns if t.started_at and t.finished_at)
    assert len(spans) == len(turns)
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))
    said = [content for role, content in await talk.messages() if role == "user"]
    assert sorted(said, key=str) == sorted(f"m{n}" for n in range(12))
    # No answer may come before a message that its turn had been given.
    assert (await talk.messages())[-1][0] == "assistant"
    assert sum(turn.injected for turn in turns) + len(turns) == 12


async def test_many_followers_need_no_connection_each(talks: Talks, live: str) -> None:
    talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=live)
    redis = talk.context.redis
    async with talk.streaming() as first:
        await first.text("one ")
        before = len(await redis.client_list())
        async with AsyncExitStack() as stack:
            others = [
                await stack.enter_async_context(talk.following(first.channel)) for _ in range(60)
            ]
            for other in others:
                await other.text("one ")
            assert len(await redis.client_list()) - before < 30
            talks.llm.release()
            assert {text_of(await other.rest()) for other in others} == {"one two"}
        assert text_of(await first.rest()) == "one two"
