"""Messages sent into a turn at work, and what becomes of them when it does not end well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from sinas.context import TURN_STOP_PREFIX
from sinas.models import Message, Turn, TurnStatus
from tests.chat.support import Talk, Talks, text_of, until
from tests.chat.test_context import chat_row
from tests.factories.chats import make_message
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.worker import RunningWorker

BROKEN = Answer(chunks=("to: ", "x"), hold_after=1, error="it broke")
AFTER = Answer(chunks=("after",))


async def statuses(talk: Talk) -> list[TurnStatus]:
    return [turn.status for turn in await talk.turns()]


async def becomes(talk: Talk, *wanted: TurnStatus) -> None:
    async def so() -> bool:
        return await statuses(talk) == list(wanted)

    await until(so)


async def test_a_message_no_model_has_seen_outlives_the_failure_of_its_turn(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    talk = await talks([BROKEN], live=live)
    async with talk.streaming("first") as first:
        await first.text("to: ")
        body = (await talk.send("second")).json()
        assert body["status"] == "injected"
        talks.llm.script("scripted", [AFTER])
        talks.llm.release()
        assert (await first.rest())[-1].name == "error"
    await becomes(talk, TurnStatus.FAILED, TurnStatus.COMPLETED)
    assert await talk.messages() == [
        ("user", "first"),
        ("user", "second"),
        ("assistant", "to: x"),
        ("assistant", "after"),
    ]
    sent = [m["content"] for m in talks.llm.requests[-1].body["messages"]]
    assert sent == ["first", "to: x", "second"]
    replay = await talk.replay()
    assert (text_of(replay), replay[-1].data) == ("after", {"status": "completed"})
    assert (await talk.detail())["active_channel_id"] != first.channel


async def test_what_its_model_has_seen_is_not_answered_twice(
    talks: Talks, live: str, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    calls = Answer(chunks=("one ",), calls=(Call("shop__echo"),), hold_after=1)
    talk = await talks([calls, Answer(status=400)], live=live, enabled_functions=["shop/*"])
    async with talk.streaming("first") as first:
        await first.text("one ")
        assert (await talk.send("second")).json()["status"] == "injected"
        talks.llm.release()
        await first.rest()
    await becomes(talk, TurnStatus.FAILED)
    assert "second" in [m["content"] for m in talks.llm.requests[-1].body["messages"]]


async def test_a_message_outlives_a_turn_that_was_given_up(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    from sinas.resources.chats.jobs import take_over

    talk = await talks([AFTER])
    limit = talk.context.settings.queue.max_retries
    async with talk.context.unit() as unit:
        turn = Turn(
            chat_id=talk.chat_id,
            user_id=(await talks.as_.user()).id,
            channel_id="lost",
            status=TurnStatus.RUNNING,
            timeout_seconds=60,
            takeovers=limit,
            fence=limit,
            injected=2,
        )
        unit.session.add(turn)
    for role, content in (
        ("user", "first"),
        ("user", "seen"),
        ("assistant", "hm"),
        ("tool", "{}"),
        ("user", "while the model thought"),
        ("assistant", "well"),
        ("user", "unseen"),
    ):
        await make_message(talk.context, chat_row(talk), role, content, turn_id=turn.id)
    await take_over(talk.context)
    await becomes(talk, TurnStatus.FAILED, TurnStatus.COMPLETED)
    async with talk.context.sessions() as session:
        (_, second) = await talk.turns()
        moved = await session.scalars(
            select(Message.content)
            .where(Message.turn_id == second.id, Message.role == "user")
            .order_by(Message.seq)
        )
        assert list(moved) == ["while the model thought", "unseen"]
    assert (await talk.messages())[-1] == ("assistant", "after")


async def test_leaving_does_not_stop_a_turn_that_somebody_else_spoke_to(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    talk = await talks([Answer(chunks=("one ", "two "), hold_after=1)], live=live)
    async with talk.streaming("first") as first:
        await first.text("one ")
        assert (await talk.send("second")).json()["status"] == "injected"
    await asyncio.sleep(3)
    talks.llm.script("scripted", [AFTER])
    talks.llm.release()
    await becomes(talk, TurnStatus.COMPLETED)
    assert (await talk.messages())[-1] == ("assistant", "after")


async def test_a_message_after_a_stop_is_a_turn_of_its_own(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    talk = await talks([Answer(chunks=("one ", "two "), hold_after=1)], live=live)
    async with talk.streaming("first") as first:
        await first.text("one ")
        # As a stop whose signal is on its way.
        async with talk.context.unit() as unit:
            await unit.session.execute(update(Turn).values(stop_requested=True))
        talks.llm.script("scripted", [AFTER])
        sending = asyncio.create_task(talk.send("second"))  # noqa: TID251 - it waits for the first

        async def is_queued() -> bool:
            return len(await talk.turns()) == 2

        await until(is_queued)
        await talk.context.redis.publish(f"{TURN_STOP_PREFIX}{(await talk.turns())[0].id}", b"1")
        assert (await first.rest())[-1].data == {"status": "cancelled"}
        assert (await sending).json()["content"] == "after"
    await becomes(talk, TurnStatus.CANCELLED, TurnStatus.COMPLETED)


async def test_a_key_with_other_limits_does_not_speak_with_the_turns_rights(
    talks: Talks, live: str, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    talk = await talks(
        [Answer(chunks=("one ", "two "), hold_after=1)], live=live, enabled_functions=["shop/*"]
    )
    key = await talks.as_.key("user", ["sinas.agents/*/*.chat:all"], live=live)
    path = f"/chats/{talk.chat_id}/messages"
    async with talk.streaming("first") as first:
        await first.text("one ")
        sending = asyncio.create_task(  # noqa: TID251 - it waits for the first
            key.post(path, json={"content": "run shop__echo"})
        )

        async def is_queued() -> bool:
            return len(await talk.turns()) == 2

        await until(is_queued, 5)
        talks.llm.script("scripted", [Answer(calls=(Call("shop__echo"),)), AFTER], by="round")
        talks.llm.release()
        await first.rest()
    assert (await sending).json()["status"] == "completed"
    (result,) = [content for role, content in await talk.messages() if role == "tool"]
    assert "Permission denied" in str(result)
    assert [turn.injected for turn in await talk.turns()] == [0, 0]
