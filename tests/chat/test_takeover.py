"""Workers that die, or only believe that they live: every turn ends once, and is told whole."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from sinas.chat.channel import stream_key
from sinas.models import Agent, Execution, ToolCall, Turn, TurnStatus, Worker
from sinas.queue.job import Queue
from tests.chat.support import Live, Talk, Talks, text_of, until
from tests.factories.chats import make_chat, make_message, make_turn
from tests.factories.functions import make_function
from tests.fixtures.state import in_own_task
from tests.support.lanes import jobs_in
from tests.support.llm_script import Answer, Call, words

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.worker import RunningWorker

BEGUN = Answer(chunks=("one ", "two ", "three"), hold_after=2)
SAME = Answer(chunks=("one ", "two ", "three"))
OTHER = Answer(chunks=("some", "thing else"))


async def expire(worker: RunningWorker) -> None:
    """What a worker's death or a long pause looks like to the others."""
    from sinas.resources.chats.jobs import take_over

    context = worker.context.app
    worker.queue_worker.allow_pick_jobs = False
    async with context.unit() as unit:
        await unit.session.execute(
            update(Worker)
            .where(Worker.id == worker.context.worker_id)
            .values(lease_until=func.clock_timestamp() - timedelta(seconds=1))
        )
    await take_over(context)


async def settled(talk: Talk, stream: Live) -> list[str]:
    """The stream to its end; the texts of assistant messages, checked against the replay."""
    live = await stream.rest()
    await talk.idle()
    stored = [c or "" for role, c in await talk.messages() if role == "assistant"]
    replay = await talk.replay(stream.channel)
    assert text_of(live) == text_of(replay) == "".join(stored)
    assert [e.name for e in replay].count("done") == 1
    return stored


async def test_a_second_worker_goes_on_where_the_first_was(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    talk = await talks([BEGUN], live=live)
    async with talk.streaming() as stream:
        await stream.text("two ")
        talks.llm.script("scripted", [SAME])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            assert await settled(talk, stream) == [SAME.text]
    assert all(event.name != "reset" for event in stream.seen)
    (turn,) = await talk.turns()
    assert (turn.status, turn.takeovers, turn.fence) == ("completed", 1, 2)


async def test_another_answer_replaces_what_was_shown(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    talk = await talks([BEGUN], live=live)
    async with talk.streaming() as stream:
        await stream.text("two ")
        talks.llm.script("scripted", [OTHER])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            assert await settled(talk, stream) == [OTHER.text]
    assert [e.name for e in stream.seen].count("reset") == 1
    replay = await talk.replay(stream.channel)
    assert all("one" not in event.content for event in replay)


async def test_a_worker_that_lost_its_turn_writes_nothing(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    talk = await talks([BEGUN], live=live)
    async with talk.streaming() as stream:
        await stream.text("two ")
        first_request = talks.llm.requests[-1]
        talks.llm.script("scripted", [Answer(chunks=("one ", "two ", "new"), hold_after=2)])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await until(lambda: _count(talks, 2))
            # Both models go on at once: the first worker comes first with its "three".
            talks.llm.release()
            assert await settled(talk, stream) == ["one two new"]
        await first_request.finished.wait()
    assert agent_worker.queue_worker.job_counter == 0
    (turn,) = await talk.turns()
    assert (turn.status, turn.fence) == ("completed", 2)


async def _count(talks: Talks, wanted: int) -> bool:
    return len(talks.llm.requests) >= wanted


@pytest.mark.parametrize("begins", ["Let me look. ", ""])
async def test_a_function_that_runs_meanwhile_runs_once(
    talks: Talks,
    live: str,
    agent_worker: RunningWorker,
    function_worker: RunningWorker,
    begins: str,
) -> None:
    from sinas.worker import open_worker

    # Its effect is an agent, which has another name each time.
    code = (
        "import json, time, urllib.request\n"
        "def handler(input_data, context):\n"
        "    headers = {'Authorization': 'Bearer ' + context['access_token'],\n"
        "               'Content-Type': 'application/json'}\n"
        "    body = json.dumps({'namespace': 'effect', 'name': 'a' + uuid.uuid4().hex}).encode()\n"
        "    where = context['api_url'] + '/api/v1/agents'\n"
        "    urllib.request.urlopen(urllib.request.Request(where, body, headers)).read()\n"
        "    time.sleep(1.5)\n"
        "    return {'found': 7}\n"
    )
    user = await talks.as_.user()
    await make_function(talks.context, user, code, namespace="shop", name="find")
    calls = Answer(chunks=(begins,) if begins else (), calls=(Call("shop__find", id="call_0"),))
    talk = await talks([calls, words(5)], live=live, enabled_functions=["shop/find"])
    async with talk.streaming() as stream:
        await stream.read_until(lambda event: event.name == "tool_start")
        await until(lambda: _has_effect(talks))
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            stored = await settled(talk, stream)
    assert "".join(stored) == begins + words(5).text
    assert await _effects(talks) == 1
    async with talk.context.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Execution)) == 1
        assert await session.scalar(select(ToolCall.status)) == "done"
    roles = [role for role, _ in await talk.messages()]
    assert roles == ["user", "assistant", "tool", "assistant"]
    replay = [event.name for event in await talk.replay(stream.channel)]
    assert (replay.count("tool_start"), replay.count("tool_end")) == (1, 1)


async def _effects(talks: Talks) -> int:
    async with talks.context.sessions() as session:
        made = select(func.count()).select_from(Agent).where(Agent.namespace == "effect")
        return await session.scalar(made) or 0


async def _has_effect(talks: Talks) -> bool:
    return await _effects(talks) > 0


async def test_a_result_nobody_was_told_is_told_by_the_successor(
    talks: Talks, live: str, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    user = await talks.as_.user()
    await make_function(talks.context, user, namespace="shop", name="echo")
    calls = Answer(calls=(Call("shop__echo", '{"x": 1}', id="call_0"),))
    talk = await talks([calls, BEGUN], live=live, enabled_functions=["shop/echo"])
    async with talk.streaming() as stream:
        await stream.text("one ")
        ended = next(e for e in stream.seen if e.name == "tool_end")
        # As if the worker had died after the commit of the result.
        await talk.context.redis.xdel(stream_key(stream.channel), ended.id)
        talks.llm.script("scripted", [calls, SAME], by="round")
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await stream.rest()
    again = [event.data for event in await talk.replay(stream.channel) if event.name == "tool_end"]
    assert again == [ended.data]


async def test_a_worker_that_stops_hands_its_turns_on(talks: Talks, live: str) -> None:
    from sinas.worker import open_worker

    talk = await talks([BEGUN], live=live)
    async with in_own_task(open_worker("agents", talk.context)):
        response = talk.streaming()
        stream = await response.__aenter__()
        await stream.text("two ")
        talks.llm.script("scripted", [SAME])
    async with in_own_task(open_worker("agents", talk.context)):
        assert await settled(talk, stream) == [SAME.text]
    await response.__aexit__(None, None, None)
    (turn,) = await talk.turns()
    assert (turn.status, turn.takeovers) == ("completed", 0)


async def test_turns_of_living_workers_are_left_alone(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.resources.chats.jobs import push_again, take_over

    talk = await talks([BEGUN], live=live)
    async with talk.streaming() as stream:
        await stream.text("two ")
        await take_over(talk.context)
        await push_again(talk.context)
        talks.llm.release()
        assert await settled(talk, stream) == [SAME.text]
    (turn,) = await talk.turns()
    assert (turn.takeovers, turn.fence) == (0, 1)
    assert len(talks.llm.requests) == 1


async def test_after_too_many_deaths_a_turn_fails(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    from sinas.resources.chats.jobs import take_over

    talk = await talks([words(2)])
    limit = talk.context.settings.queue.max_retries
    chat_id = talk.chat_id
    async with talk.context.unit() as unit:
        turn = Turn(
            chat_id=chat_id,
            user_id=(await talks.as_.user()).id,
            channel_id="lost",
            status=TurnStatus.RUNNING,
            timeout_seconds=60,
            takeovers=limit,
            fence=limit,
        )
        unit.session.add(turn)
    await take_over(talk.context)
    seen = await talk.replay("lost")
    assert [event.name for event in seen] == ["error"]
    assert f"interrupted {limit + 1} times" in seen[0].data["error"]
    assert (await talk.idle()).status == "failed"
    assert text_of(await talk.stream("next")) == words(2).text


async def test_a_job_lost_between_commit_and_queue_is_pushed_again(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    from sinas.resources.chats.jobs import push_again

    talk = await talks([words(2)])
    user = await talks.as_.user()
    chat = await make_chat(talk.context, user, talk.agent)
    turn = await make_turn(talk.context, chat, channel_id="lost")
    await make_message(talk.context, chat, turn_id=turn.id)
    await push_again(talk.context)
    assert await jobs_in(talk.context, Queue.AGENTS) == 0
    await _age(talk.context)
    await push_again(talk.context)
    lost = Talk(talk.context, talk.client, {"id": str(chat.id)}, talk.agent)
    await lost.idle()
    assert await lost.messages() == [("user", "hi"), ("assistant", words(2).text)]
    assert text_of(await lost.replay("lost")) == words(2).text


async def _age(context: AppContext) -> None:
    async with context.unit() as unit:
        await unit.session.execute(
            update(Turn).values(queued_at=func.clock_timestamp() - timedelta(seconds=10))
        )


async def test_turns_of_one_chat_keep_their_order_when_pushed_together(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    from sinas.resources.chats.jobs import push_again

    talk = await talks(model="echo")
    user = await talks.as_.user()
    chat = await make_chat(talk.context, user, talk.agent)
    for number in range(4):
        turn = await make_turn(talk.context, chat)
        await make_message(talk.context, chat, content=f"m{number}", turn_id=turn.id)
    await _age(talk.context)
    await push_again(talk.context)
    lost = Talk(talk.context, talk.client, {"id": str(chat.id)}, talk.agent)
    await lost.idle()
    answers = [content for role, content in await lost.messages() if role == "assistant"]
    assert answers == ["m0", "m1", "m2", "m3"]


async def test_a_turn_of_a_deactivated_user_ends_with_an_error(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    from sinas.models import User
    from sinas.resources.chats.jobs import push_again

    talk = await talks([words(2)])
    user = await talks.as_.user()
    chat = await make_chat(talk.context, user, talk.agent)
    turn = await make_turn(talk.context, chat)
    await make_message(talk.context, chat, turn_id=turn.id)
    async with talk.context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == user.id).values(is_active=False))
    await _age(talk.context)
    await push_again(talk.context)

    async def failed() -> bool:
        async with talk.context.sessions() as session:
            return await session.scalar(select(Turn.status)) == "failed"

    await until(failed)
    async with talk.context.sessions() as session:
        assert "no longer active" in str(await session.scalar(select(Turn.error)))
    assert len(talks.llm.requests) == 0
