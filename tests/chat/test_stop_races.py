"""Stops that come when nobody can hear them, and what they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from sinas.chat.journal import Journal
from sinas.models import ToolCall, ToolCallStatus, Turn, TurnStatus
from tests.chat.support import Talk, Talks, names, text_of, until
from tests.chat.test_sub_agents import ASK, ended, helper, turns
from tests.chat.test_takeover import expire
from tests.factories.functions import make_function
from tests.fixtures.state import in_own_task
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from uuid import UUID

    from sinas.context import AppContext
    from sinas.worker import RunningWorker

FINAL = Answer(chunks=("the ", "end"))
QUESTION = Call("ask_user", '{"question": "Which one?"}', id="call_0")


async def stop(talk: Talk) -> None:
    answer = await talk.client.post(f"/chats/{talk.chat_id}/stop")
    assert answer.json() == {"status": "stopping", "turns": 1}


async def stop_unheard(talk: Talk) -> None:
    """As a stop leaves the row of a turn at work; its signal comes later than what follows."""
    async with talk.context.unit() as unit:
        await unit.session.execute(
            update(Turn).where(Turn.chat_id == talk.chat_id).values(stop_requested=True)
        )


async def test_a_stop_just_after_the_claim_is_heard(
    talks: Talks, live: str, agent_worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await talks([Answer(chunks=("never ", "ends"), hold_after=1)], live=live)
    claim = Journal.claim.__func__  # type: ignore[attr-defined]

    async def claimed(cls: Any, app: AppContext, turn_id: UUID, worker_id: UUID) -> Any:
        journal = await claim(cls, app, turn_id, worker_id)
        await stop(talk)
        return journal

    monkeypatch.setattr(Journal, "claim", classmethod(claimed))
    async with talk.streaming() as stream:
        seen = await stream.rest()
    assert seen[-1].data == {"status": "cancelled"}
    assert (await talk.idle()).status is TurnStatus.CANCELLED


@pytest.mark.parametrize("what", ["a question", "an approval", "a sub-agent"])
async def test_a_turn_that_is_stopped_as_it_begins_to_wait_does_not_wait(
    talks: Talks,
    agent_worker: RunningWorker,
    function_worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    await helper(talks, [Answer(chunks=("slow ", "work"), hold_after=0)])
    owner = await talks.as_.user()
    await make_function(
        talks.context, owner, namespace="shop", name="danger", requires_approval=True
    )
    call = {"a question": QUESTION, "an approval": Call("shop__danger"), "a sub-agent": ASK}[what]
    talk = await talks(
        [Answer(chunks=("Well. ",), calls=(call,)), FINAL],
        system_tools=["askUser"],
        enabled_functions=["shop/*"],
        enabled_agents=["team/helper"],
    )
    name = "plan_round" if what == "an approval" else "suspend"
    original = getattr(Journal, name)

    async def late(journal: Journal, *args: Any) -> Any:
        await stop_unheard(talk)
        return await original(journal, *args)

    monkeypatch.setattr(Journal, name, late)
    seen = await talk.stream()
    assert seen[-1].data == {"status": "cancelled"}
    assert set(await ended(talks)) == {TurnStatus.CANCELLED}
    stored = [content or "" for role, content in await talk.messages() if role == "assistant"]
    assert "".join(stored) == "Well. " == text_of(seen)
    detail = await talk.detail()
    assert detail["pending_inputs"] == detail["pending_approvals"] == []


async def test_what_a_dead_worker_showed_is_kept_by_a_stop(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    talk = await talks([Answer(chunks=("one ", "two ", "three"), hold_after=2)], live=live)
    async with talk.streaming() as stream:
        await stream.text("two ")
        await expire(agent_worker)
        await stop(talk)
        async with in_own_task(open_worker("agents", talk.context)):
            seen = await stream.rest()
    assert seen[-1].data == {"status": "cancelled"}
    assert await talk.messages() == [("user", "hello"), ("assistant", "one two ")]
    assert text_of(await talk.replay(stream.channel)) == "one two "


async def test_a_waiting_turn_that_is_stopped_says_so_on_a_channel_of_its_own(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    talk = await talks([Answer(calls=(QUESTION,)), FINAL], system_tools=["askUser"])
    await talk.stream()
    old = (await talk.detail())["active_channel_id"]
    await stop(talk)
    assert (await talk.idle()).status is TurnStatus.CANCELLED
    new = (await talk.detail())["active_channel_id"]
    assert new != old
    assert [e.data for e in await talk.replay(new)] == [{"status": "cancelled"}]


async def test_a_child_nobody_stopped_is_stopped_by_the_sweep(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    """The parent's worker ended the turn, and died before it came to the child's."""
    from sinas.resources.chats.jobs import settle

    await helper(talks, [Answer(chunks=("slow ", "work"), hold_after=1)])
    talk = await talks([Answer(calls=(ASK,)), FINAL], live=live, enabled_agents=["team/helper"])
    async with talk.streaming() as stream:
        await stream.read_until(lambda e: e.name == "sub_agent")
        async with talk.context.unit() as unit:
            await unit.session.execute(
                update(Turn)
                .where(Turn.depth == 0)
                .values(status=TurnStatus.CANCELLED, fence=Turn.fence + 1)
            )
            await unit.session.execute(update(ToolCall).values(status=ToolCallStatus.INTERRUPTED))
        await settle(talk.context)

        async def all_ended() -> bool:
            return {t.status for t in await turns(talks)} == {TurnStatus.CANCELLED}

        await until(all_ended, 5)
        assert names(await stream.rest())[-1] == "done"
