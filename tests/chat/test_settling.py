"""Calls that end elsewhere while others of their round are still open."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import orjson
import pytest

from sinas.chat.journal import Journal
from sinas.models import TurnStatus
from tests.chat.support import Seen, Talk, Talks, names, text_of, until
from tests.chat.test_questions import answered
from tests.chat.test_sub_agents import ASK, ended, helper, turns
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
QUESTION = Call("ask_user", '{"question": "Which one?"}', id="call_0")
SLEEP = "import time\ndef handler(i, c):\n    time.sleep(i.get('seconds', 1))\n    return 'slept'"


def told(seen: list[Seen]) -> Counter[tuple[str, str]]:
    return Counter(
        (e.name, e.data["tool_call_id"]) for e in seen if e.name in ("tool_start", "tool_end")
    )


async def sleeping(talks: Talks, **options: Any) -> None:
    await make_function(
        talks.context, await talks.as_.user(), SLEEP, namespace="shop", name="sleep", **options
    )


async def asking_beside_work(talks: Talks, live: str) -> Talk:
    await sleeping(talks)
    slow = Call("shop__sleep", '{"seconds": 1.5}', id="call_1")
    return await talks(
        [Answer(calls=(QUESTION, slow)), FINAL],
        live=live,
        system_tools=["askUser"],
        enabled_functions=["shop/*"],
    )


async def test_a_question_can_be_answered_while_other_calls_run(talks: Talks, live: str) -> None:
    talk = await asking_beside_work(talks, live)
    async with talk.streaming() as stream:
        await stream.read_until(lambda e: e.name == "input_required")
        answer = await answered(talk)
        assert answer.status_code == 202
        assert (answer.json()["resumed"], answer.json()["channel_id"]) == (False, None)
        assert (await answered(talk)).status_code == 409
        seen = await stream.rest()
    assert seen[-1].data == {"status": "completed"}
    assert text_of(seen) == "the end"
    assert set(told(seen).values()) == {1}
    assert len(told(seen)) == 4
    assert [role for role, _ in await talk.messages()].count("tool") == 2


async def test_waiting_for_the_outcome_of_such_an_answer(talks: Talks, live: str) -> None:
    talk = await asking_beside_work(talks, live)
    async with talk.streaming() as stream:
        await stream.read_until(lambda e: e.name == "input_required")
        body = (await answered(talk, wait=True)).json()
    assert (body["status"], body["reply"]) == ("completed", "the end")


async def test_an_old_announcement_does_not_end_the_wait(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes between the commit that the turn waits and the word that it does."""
    from sinas.context import JOB_DONE_PREFIX
    from sinas.resources.chats.approvals import DecisionService

    talk = await talks([Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    await talk.stream()
    (turn,) = await talk.turns()
    original = DecisionService.answer

    async def late(service: DecisionService, *args: Any) -> Any:
        found = await original(service, *args)
        said = orjson.dumps({"status": "waiting"})
        service.unit.publish(f"{JOB_DONE_PREFIX}{turn.id}", said)
        return found

    monkeypatch.setattr(DecisionService, "answer", late)
    body = (await answered(talk, wait=True)).json()
    assert (body["status"], body["reply"]) == ("completed", "the end")


async def test_a_sub_agent_that_ends_before_a_function_is_told_once(
    talks: Talks, live: str
) -> None:
    await helper(talks, [Answer(chunks=("quick",))])
    await sleeping(talks)
    slow = Call("shop__sleep", '{"seconds": 1}', id="call_1")
    talk = await talks(
        [Answer(calls=(ASK, slow)), FINAL],
        enabled_agents=["team/*"],
        enabled_functions=["shop/*"],
    )
    seen = await talk.stream()
    assert told(seen) == Counter(
        {(what, call): 1 for what in ("tool_start", "tool_end") for call in ("call_0", "call_1")}
    )


async def test_each_result_is_shown_when_it_comes(talks: Talks, live: str) -> None:
    await helper(talks, [Answer(chunks=("quick",))])
    await helper(talks, [Answer(chunks=("slow",), hold_after=0)], "second")
    second = Call("call_agent_team__second", '{"prompt": "p"}', id="call_1")
    talk = await talks([Answer(calls=(ASK, second)), FINAL], live=live, enabled_agents=["team/*"])

    async def is_slow_one_asked() -> bool:
        return talks.llm.is_holding

    async with talk.streaming() as stream:
        first = await stream.read_until(lambda e: e.name == "tool_end")
        assert orjson.loads(first.data["result"])["response"] == "quick"
        await until(is_slow_one_asked)
        talks.llm.release()
        seen = await stream.rest()
    assert set(told(seen).values()) == {1}
    assert text_of(seen) == "the end"


async def test_what_was_shown_is_not_shown_again_on_the_next_channel(talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    talk = await talks(
        [Answer(calls=(QUESTION, Call("shop__echo", '{"x": 1}', id="call_1"))), FINAL],
        system_tools=["askUser"],
        enabled_functions=["shop/*"],
    )
    seen = await talk.stream()
    assert ("tool_end", "call_1") in told(seen)
    channel = (await answered(talk)).json()["channel_id"]
    resumed = await talk.replay(channel)
    assert [e.data["tool_call_id"] for e in resumed if e.name == "tool_end"] == ["call_0"]


async def test_decisions_name_the_channel_of_the_turn_they_are_for(talks: Talks) -> None:
    """An older turn of the chat waits, too."""
    owner = await talks.as_.user()
    await make_function(
        talks.context, owner, namespace="shop", name="danger", requires_approval=True
    )
    danger = Call("shop__danger", id="call_0")
    await helper(talks, [Answer(calls=(danger,)), FINAL], enabled_functions=["shop/*"])
    talk = await talks(
        [Answer(calls=(danger,))], enabled_functions=["shop/*"], enabled_agents=["team/*"]
    )
    await talk.stream("first")
    talks.llm.script("scripted", [Answer(calls=(ASK,)), FINAL], by="round")
    seen = await talk.stream("second")
    (asked,) = [e.data for e in seen if e.name == "approval_required"]
    body = (await talk.decide(asked["tool_call_id"], approved=True)).json()
    resumed = await talk.replay(body["channel_id"])
    assert (text_of(resumed), resumed[-1].data) == ("the end", {"status": "completed"})
    statuses = [turn.status for turn in await talk.turns()]
    assert statuses == [TurnStatus.WAITING, TurnStatus.COMPLETED]


async def test_the_stream_does_not_end_before_a_sub_agents_question_is_on_it(
    talks: Talks, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn at the top begins to wait just when its sub-agent has, and has not said so yet."""
    await helper(talks, [Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/*"])
    suspended, parked = asyncio.Event(), asyncio.Event()
    suspend, put = Journal.suspend, Journal.wait_for

    async def wait_for(journal: Journal, *args: Any) -> Any:
        row = await put(journal, *args)
        if journal.turn.depth == 1:
            # Its row says what it asks; the streams do not yet.
            await suspend(journal)
            suspended.set()
            await parked.wait()
        return row

    async def suspending(journal: Journal) -> Any:
        if journal.turn.depth == 1:
            return TurnStatus.WAITING, []
        await suspended.wait()
        return await suspend(journal)

    monkeypatch.setattr(Journal, "wait_for", wait_for)
    monkeypatch.setattr(Journal, "suspend", suspending)
    seen = await talk.stream()
    parked.set()
    # What else its sub-agent does may be told in between.
    own = [event for event in seen if event.name != "sub_agent"]
    assert names(own)[-3:] == ["input_required", "round_suspended", "done"]
    assert own[-1].data == {"status": "suspended"}
    asked = own[-3].data
    assert asked["agent"] == "team/helper"
    assert (await answered(talk, asked["tool_call_id"], wait=True)).json()["reply"] == "the end"


async def test_questions_that_redis_forgot_are_asked_at_the_top(talks: Talks) -> None:
    from sinas.chat.channel import stream_key

    await helper(talks, [Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/*"])
    seen = await talk.stream()
    channel = (await talk.detail())["active_channel_id"]
    await talk.context.redis.delete(stream_key(channel))
    again = await talk.replay(channel)
    assert names(again) == ["input_required", "done"]
    (asked,) = [e.data for e in seen if e.name == "input_required"]
    assert again[0].data == asked


async def test_two_sub_agents_ask_and_one_is_answered(talks: Talks) -> None:
    """The other's question is asked again where the stream goes on and ends."""
    for name in ("helper", "second"):
        await helper(talks, [Answer(calls=(QUESTION,)), FINAL], name, system_tools=["askUser"])
    second = Call("call_agent_team__second", '{"prompt": "p"}', id="call_1")
    talk = await talks([Answer(calls=(ASK, second)), FINAL], enabled_agents=["team/*"])
    await talk.stream()
    first, other = (await talk.detail())["pending_inputs"]
    body = (await answered(talk, first["tool_call_id"])).json()
    assert body["resumed"] is True
    seen = await talk.replay(body["channel_id"])
    assert seen[-1].data == {"status": "suspended"}
    assert [e.data["tool_call_id"] for e in seen if e.name == "input_required"] == [
        other["tool_call_id"]
    ]
    assert (await answered(talk, other["tool_call_id"], wait=True)).json()["reply"] == "the end"
    assert await ended(talks) == [TurnStatus.COMPLETED] * 3


async def test_a_message_behind_a_turn_that_waits_for_a_sub_agents_answer_is_woken(
    talks: Talks,
) -> None:
    """One that does not go into the turn, as those of the adapter's sessions."""
    await helper(
        talks,
        [Answer(chunks=("x",), first_delay=0.5, calls=(QUESTION,)), FINAL],
        system_tools=["askUser"],
    )
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/*"])
    sending = asyncio.create_task(talk.stream())  # noqa: TID251 - the turn is to be at work

    async def is_delegated() -> bool:
        return any(t.status is TurnStatus.DELEGATED for t in await turns(talks))

    await until(is_delegated)
    talks.llm.script("scripted", [FINAL])
    await _queue_behind(talks, talk)
    assert (await sending)[-1].data == {"status": "suspended"}

    async def is_answered() -> bool:
        return (await talk.turns())[-1].status is TurnStatus.COMPLETED

    await until(is_answered, 2)


async def _queue_behind(talks: Talks, talk: Talk) -> None:
    from sinas.auth.principal import system_principal
    from sinas.resources.chats.service import ChatService

    user = await talks.as_.user()
    async with talks.context.unit() as unit:
        service = ChatService(unit, system_principal(user.id, user.email))
        await service.send(UUID(talk.chat_id), "behind", talks.context.settings)


async def test_the_usage_since_it_was_resumed_is_told(talks: Talks) -> None:
    again = Call("ask_user", '{"question": "Sure?"}', id="call_1")
    talk = await talks(
        [Answer(calls=(QUESTION,)), Answer(calls=(again,)), FINAL], system_tools=["askUser"]
    )
    seen = await talk.stream()
    assert "usage" not in seen[-2].data
    resumed = await talk.replay((await answered(talk)).json()["channel_id"])
    assert resumed[-2].name == "round_suspended"
    assert resumed[-2].data["usage"]["calls"] == 1
