"""Writing and reading a channel on a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from sinas.chat import events
from sinas.chat.answer import Replay
from sinas.chat.channel import (
    ChannelWriter,
    Entry,
    Mirror,
    parse_live,
    read_after,
    read_emitted,
    stream_key,
)
from sinas.errors import LeaseLostError
from sinas.llm.base import Delta, ToolCallDelta

if TYPE_CHECKING:
    from sinas.context import AppContext

CHANNEL = "c-1"


def writer(
    context: AppContext, fence: int = 1, round_number: int = 0, channel: str = CHANNEL
) -> ChannelWriter:
    made = ChannelWriter(context.redis, channel, fence, 60)
    made.round_number = round_number
    return made


async def stored(context: AppContext, channel: str = CHANNEL) -> list[tuple[str, object]]:
    entries = await read_after(context.redis, channel, "0")
    return [(e.event, orjson.loads(e.data)) for e in entries]


async def texts(context: AppContext) -> list[str]:
    return [d["content"] for name, d in await stored(context) if name == "message"]  # type: ignore[index]


async def test_text_put_together_is_one_event(context: AppContext) -> None:
    w = writer(context)
    for word in ("a ", "b ", "c"):
        w.put(events.message(word))
    await w.flush()
    assert await texts(context) == ["a b c"]


@pytest.mark.parametrize(
    "between",
    [
        events.message(None, finish_reason="stop"),
        events.message("x", finish_reason="length"),
        events.message(None, tool_calls=[{"index": 0}]),
        events.message(None, thinking="hm"),
        events.tool_end("1", "t", "r"),
    ],
)
async def test_only_plain_text_is_joined(context: AppContext, between: events.Event) -> None:
    w = writer(context)
    for event in (events.message("a"), between, events.message("b")):
        w.put(event)
    await w.flush()
    assert await stored(context) == [
        ("message", events.message("a").data),
        (between.name, between.data),
        ("message", events.message("b").data),
    ]


async def test_a_running_writer_keeps_order_and_loses_nothing(context: AppContext) -> None:
    w = writer(context)
    words = [f"{n} " for n in range(500)]
    running = asyncio.ensure_future(w.run())
    for number, word in enumerate(words):
        w.put(events.message(word))
        if number % 50 == 0:
            await asyncio.sleep(0.005)
    w.put(events.done())
    await w.flush()
    running.cancel()
    assert "".join(await texts(context)) == "".join(words)
    assert (await stored(context))[-1] == ("done", {"status": "completed"})
    assert 1 < len(await stored(context)) < 200


async def test_what_is_published_is_what_is_stored(context: AppContext) -> None:
    async with context.signals.listen(f"sinas:live:{CHANNEL}") as listener:
        w = writer(context)
        w.put(events.message("line\nbreak and  spaces"))
        w.put(events.done())
        await w.flush()
        payload = await asyncio.wait_for(listener.get(), 5)
        while not payload:
            payload = await asyncio.wait_for(listener.get(), 5)
    assert parse_live(payload) == await read_after(context.redis, CHANNEL, "0")


async def test_an_older_fence_writes_nothing(context: AppContext) -> None:
    old, new = writer(context, 1), writer(context, 2)
    old.put(events.message("before"))
    await old.flush()
    await new.take()
    old.put(events.message("after"))
    with pytest.raises(LeaseLostError):
        await old.flush()
    new.put(events.done())
    await new.flush()
    assert [name for name, _ in await stored(context)] == ["message", "done"]


async def test_a_batch_whose_answer_was_lost_is_written_once(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = writer(context)
    script, answers = w._script, 0

    async def lose_every_second(**arguments: Any) -> object:
        nonlocal answers
        found: object = await script(**arguments)
        answers += 1
        if answers % 2:
            raise RedisConnectionError("gone before its answer")
        return found

    monkeypatch.setattr(w, "_script", lose_every_second)
    for word in ("a ", "b ", "c"):
        w.put(events.message(word))
        await w.flush()
    assert (await texts(context), answers) == (["a ", "b ", "c"], 6)


async def test_what_a_cancelled_flush_leaves_is_written_by_the_next(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = writer(context)
    script, is_away = w._script, True

    async def unreachable(**arguments: Any) -> object:
        if is_away:
            raise RedisConnectionError("away")
        return await script(**arguments)

    monkeypatch.setattr(w, "_script", unreachable)
    w.put(events.message("a "))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await w.flush()
    is_away = False
    w.put(events.message("b"))
    await w.flush()
    assert await texts(context) == ["a ", "b"]


def mirror(channel_id: str) -> Mirror:
    return Mirror(channel_id=channel_id, call_id="call_0", agent="team/helper", chat_id="c")


async def test_streams_above_get_what_the_own_one_gets_or_nothing(context: AppContext) -> None:
    ended = writer(context, channel="ended")
    ended.put(events.done())
    await ended.flush()
    # The turn above has been taken over meanwhile: its sub-agent is still its own.
    await writer(context, 7, channel="above").take()
    old, new = writer(context, 1), writer(context, 2)
    for w in (old, new):
        w.mirrors = (mirror("above"), mirror("ended"))
    new.put(events.message("shown"))
    await new.flush()
    old.put(events.message("too late"))
    with pytest.raises(LeaseLostError):
        await old.flush()
    (shown,) = await stored(context, "above")
    told = events.sub_agent("call_0", "team/helper", "c", events.message("shown"))
    assert shown == (told.name, told.data)
    assert await stored(context, "ended") == [("done", {"status": "completed"})]


async def test_an_answer_is_taken_back_in_one_step_with_what_replaces_it(
    context: AppContext,
) -> None:
    first = writer(context)
    first.put(events.message("wrong"))
    await first.flush()
    emitted = await read_emitted(context.redis, CHANNEL, 0)
    first.take_back(emitted.partial)
    first.put(events.message("right"))
    assert await texts(context) == ["wrong"]
    await first.flush()
    assert [name for name, _ in await stored(context)] == ["reset", "message"]
    assert await texts(context) == ["right"]


async def test_streams_expire(context: AppContext) -> None:
    w = writer(context)
    w.put(events.message("a"))
    await w.flush()
    assert 0 < await context.redis.ttl(stream_key(CHANNEL)) <= 60
    assert 0 < await context.redis.ttl(f"{stream_key(CHANNEL)}:fence") <= 60


def test_ids_are_ordered_as_numbers() -> None:
    ids = ["9-9", "9-10", "10-0", "10"]
    positions = [Entry(i, "", "").position for i in ids]
    assert positions == [(9, 9), (9, 10), (10, 0), (10, 0)]
    assert positions == sorted(positions)


async def test_what_a_successor_reads_back(context: AppContext) -> None:
    w = writer(context)
    w.put(events.message("round zero"))
    w.put(events.tool_start("1", "t", "{}", "d"))
    w.put(events.tool_end("1", "t", "r"))
    w.put(events.tool_start("2", "t", "{}", "d"))
    w.put(events.tool_rejected("3", "a", "b"))
    await w.flush()
    w.round_number = 1
    w.put(events.message("par"))
    await w.flush()
    w.put(events.message("tial"))
    await w.flush()
    emitted = await read_emitted(context.redis, CHANNEL, 1)
    assert (emitted.text, len(emitted.partial), emitted.has_calls) == ("partial", 2, False)
    assert emitted.started == {"1", "2"}
    assert emitted.ended == {"1"}
    assert emitted.rejected == {"3"}
    assert (await read_emitted(context.redis, CHANNEL, 2)).partial == ()


CALL = (ToolCallDelta(0, "1", "t", "{}"),)
FINISH = Delta(None, (), "stop")


@pytest.mark.parametrize(
    ("shown", "answer", "resets"),
    [
        (["one ", "two"], [Delta("one "), Delta("two three"), FINISH], False),
        (["one two"], [Delta("o"), Delta("ne two"), Delta(" three"), FINISH], False),
        (["one two"], [Delta("one two"), FINISH], False),
        (["one two"], [Delta("one two")], False),
        (["one two"], [Delta("one tWo"), FINISH], True),
        (["one two"], [Delta("one"), FINISH], True),
        (["one two"], [Delta("one")], True),
        (["one two"], [], True),
        (["one "], [Delta("one two"), Delta(None, CALL, "tool_calls")], False),
        (["one two"], [Delta("one"), Delta(None, CALL, "tool_calls")], True),
        ([], [Delta("one"), FINISH], False),
    ],
)
async def test_a_second_answer_is_matched_with_what_was_shown(
    context: AppContext, shown: list[str], answer: list[Delta], resets: bool
) -> None:
    first = writer(context)
    for text in shown:
        first.put(events.message(text))
        await first.flush()
    replay = Replay(await read_emitted(context.redis, CHANNEL, 0))
    second = writer(context, 2)
    for delta in answer:
        if replay.is_over:
            event = events.chunk(delta)
            assert event is not None
            second.put(event)
        else:
            replay.take(second, delta)
    replay.close(second)
    await second.flush()
    whole = "".join(delta.content or "" for delta in answer)
    found = await stored(context)
    assert ("reset", {"type": "reset"}) in found if resets else all(n != "reset" for n, _ in found)
    # Whoever replays from the start, and whoever followed live and obeys `reset`.
    assert "".join(filter(None, await texts(context))) == whole
    if resets:
        assert found[0][0] == "reset"
    calls = [d for _, d in found if d.get("tool_calls")]  # type: ignore[attr-defined]
    assert len(calls) == sum(1 for delta in answer if delta.tool_calls)


async def test_a_cut_off_tool_call_is_told_anew(context: AppContext) -> None:
    first = writer(context)
    chunk = events.chunk(Delta("look", CALL))
    assert chunk is not None
    first.put(chunk)
    await first.flush()
    replay = Replay(await read_emitted(context.redis, CHANNEL, 0))
    second = writer(context, 2)
    replay.take(second, Delta("look"))
    await second.flush()
    assert [name for name, _ in await stored(context)] == ["reset", "message"]
    assert await texts(context) == ["look"]
