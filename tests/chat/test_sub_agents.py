"""Agents that call agents: one turn waits for another without holding a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import select, update

from sinas.models import Agent, Chat, ToolCall, ToolCallStatus, Turn, TurnStatus
from tests.chat.support import Seen, Talk, Talks, names, text_of, until
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.worker import RunningWorker

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
ASK = Call("call_agent_team__helper", '{"prompt": "help me"}', id="call_0")


async def helper(talks: Talks, answers: list[Answer], name: str = "helper", **agent: Any) -> Agent:
    """A sub-agent of its own model, which answers by script."""
    talks.llm.script(name, answers, by="round")
    return await make_agent(
        talks.context,
        await talks.as_.user(),
        provider=await make_provider(talks.context, talks.llm.openai_url),
        namespace="team",
        name=name,
        model=name,
        **agent,
    )


def results(seen: list[Seen]) -> list[dict[str, Any]]:
    return [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]


def inner(seen: list[Seen], event: str) -> list[dict[str, Any]]:
    return [e.data for e in seen if e.name == "sub_agent" and e.data["event"] == event]


async def turns(talks: Talks) -> list[Turn]:
    async with talks.context.sessions() as session:
        return list((await session.scalars(select(Turn).order_by(Turn.seq))).all())


async def ended(talks: Talks) -> list[TurnStatus]:
    """Wait until nothing is at work; how all turns ended."""

    async def all_ended() -> bool:
        return all(t.status in ("completed", "failed", "cancelled") for t in await turns(talks))

    await until(all_ended)
    return [turn.status for turn in await turns(talks)]


async def test_a_call_is_answered_by_the_other_agents_turn(talks: Talks) -> None:
    await helper(talks, [Answer(chunks=("I ", "did"))], description="Does things.")
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/helper"])
    seen = await talk.stream("go")
    offered = talks.llm.requests[0].body["tools"][0]["function"]
    assert (offered["name"], offered["description"]) == ("call_agent_team__helper", "Does things.")
    assert offered["parameters"]["required"] == ["prompt"]
    (result,) = results(seen)
    assert (result["agent_name"], result["response"]) == ("helper", "I did")
    assert text_of(seen) == "the end"
    # What it does is seen in the stream of the one who asked.
    said = inner(seen, "message")
    assert "".join(one["data"]["content"] or "" for one in said) == "I did"
    assert {(one["agent"], one["tool_call_id"]) for one in said} == {("team/helper", "call_0")}
    assert seen[-1].data == {"status": "completed"}
    child = (await talk.client.get(f"/chats/{result['chat_id']}")).json()
    assert child["title"] == "Sub-chat: helper"
    assert [m["content"] for m in child["messages"]] == ["help me", "I did"]


async def test_the_input_of_the_other_agent_is_validated_and_used(talks: Talks) -> None:
    await helper(
        talks,
        [FINAL],
        input_schema={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
        system_prompt="You know {{ city }}.",
        initial_messages=[{"role": "assistant", "content": "Welcome to {{ city }}"}],
    )
    wrong = Call("call_agent_team__helper", '{"prompt": "x", "city": 3}', id="a")
    lacking = Call("call_agent_team__helper", '{"prompt": "x"}', id="b")
    right = Call("call_agent_team__helper", '{"prompt": "x", "city": "Bern"}', id="c")
    talk = await talks([Answer(calls=(wrong, lacking, right)), FINAL], enabled_agents=["team/*"])
    seen = await talk.stream()
    by_call = {
        e.data["tool_call_id"]: orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"
    }
    assert by_call["a"]["error"] == by_call["b"]["error"] == "Invalid arguments"
    assert "city" in by_call["b"]["message"]
    assert by_call["c"]["response"] == "the end"
    asked = next(r.body for r in talks.llm.requests if r.body["model"] == "helper")
    assert [m["content"] for m in asked["messages"]] == ["You know Bern.", "Welcome to Bern", "x"]
    async with talks.context.sessions() as session:
        made = (await session.scalars(select(Chat).where(Chat.root_chat_id.is_not(None)))).all()
    assert len(made) == 1


async def test_one_worker_slot_is_enough_for_a_chain(
    talks: Talks, agent_worker: RunningWorker
) -> None:
    # Every slot of every lane is one: nobody could wait for anybody while holding it.
    for lane in agent_worker.queue_worker._lanes:
        lane.slots = 1
    await helper(talks, [Answer(chunks=("deep",))], "third")
    for name, below in (("second", "third"), ("first", "second")):
        call = Call(f"call_agent_team__{below}", '{"prompt": "p"}')
        await helper(talks, [Answer(calls=(call,)), FINAL], name, enabled_agents=[f"team/{below}"])
    call = Call("call_agent_team__first", '{"prompt": "p"}')
    talk = await talks([Answer(calls=(call,)), FINAL], enabled_agents=["team/first"])
    streams = await asyncio.gather(  # noqa: TID251 - more chains than slots
        *(_chain(talks, talk.agent) for _ in range(4))
    )
    assert [text_of(seen) for seen in streams] == ["the end"] * 4
    assert await ended(talks) == [TurnStatus.COMPLETED] * 16
    assert max(turn.depth for turn in await turns(talks)) == 3


async def _chain(talks: Talks, agent: Agent) -> list[Seen]:
    talk = await talks.open(await talks.as_("user"), agent)
    return await talk.stream("go")


async def test_agents_that_call_each_other_end(talks: Talks) -> None:
    call = Call("call_agent_team__ping", '{"prompt": "p"}')
    other = Call("call_agent_team__pong", '{"prompt": "p"}')
    await helper(talks, [Answer(calls=(other,)), FINAL], "ping", enabled_agents=["team/pong"])
    await helper(talks, [Answer(calls=(call,)), FINAL], "pong", enabled_agents=["team/ping"])
    talk = await talks([Answer(calls=(call,)), FINAL], enabled_agents=["team/ping"])
    seen = await talk.stream()
    assert text_of(seen) == "the end"
    assert await ended(talks) == [TurnStatus.COMPLETED] * 6
    async with talks.context.sessions() as session:
        failed = (
            await session.scalars(select(ToolCall).where(ToolCall.status == ToolCallStatus.FAILED))
        ).all()
    assert [call.result["error"] for call in failed if isinstance(call.result, dict)] == [
        "Too many nested agents"
    ]


async def test_itself_and_what_the_caller_may_not_use_are_no_tools(talks: Talks) -> None:
    await helper(talks, [FINAL])
    await helper(talks, [FINAL], "asleep", is_active=False)
    client = await talks.as_.key(
        "user", ["sinas.agents/*/*.read:all", "sinas.agents/mine/*.chat:all"]
    )
    agent = await make_agent(
        talks.context,
        await talks.as_.user(),
        provider=await make_provider(talks.context, talks.llm.openai_url, name="other"),
        model="echo",
        namespace="mine",
        name="alone",
        enabled_agents=["*/*"],
    )
    talk = await talks.open(client, agent)
    await talk.stream()
    assert "tools" not in talks.llm.requests[-1].body


async def test_two_at_once_and_a_function_beside_them(talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    await helper(talks, [Answer(chunks=("one",))])
    await helper(talks, [Answer(chunks=("two",))], "second")
    calls = (
        ASK,
        Call("call_agent_team__second", '{"prompt": "p"}', id="call_1"),
        Call("shop__echo", '{"x": 1}', id="call_2"),
    )
    talk = await talks(
        [Answer(calls=calls), FINAL], enabled_agents=["team/*"], enabled_functions=["shop/*"]
    )
    answer = await talk.send()
    assert (answer.json()["status"], answer.json()["content"]) == ("completed", "the end")
    sent = talks.llm.requests[-1].body["messages"][-3:]
    assert [m["tool_call_id"] for m in sent] == ["call_0", "call_1", "call_2"]
    assert ["one" in sent[0]["content"], "two" in sent[1]["content"]] == [True, True]


async def test_one_that_ends_before_the_call_beside_it(talks: Talks) -> None:
    code = "import time\ndef handler(input_data, context):\n    time.sleep(1)\n    return 1\n"
    await make_function(talks.context, await talks.as_.user(), code, namespace="shop", name="slow")
    await helper(talks, [Answer(chunks=("quick",))])
    calls = (ASK, Call("shop__slow", id="call_1"))
    talk = await talks(
        [Answer(calls=calls), FINAL], enabled_agents=["team/*"], enabled_functions=["shop/*"]
    )
    seen = await talk.stream("go")
    for event in ("tool_start", "tool_end"):
        told = [e.data["tool_call_id"] for e in seen if e.name == event]
        assert sorted(told) == ["call_0", "call_1"]
    assert text_of(seen) == "the end"


async def test_an_earlier_chat_is_gone_on_with(talks: Talks) -> None:
    await helper(talks, [Answer(chunks=("fine",))])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/helper"])
    (first,) = results(await talk.stream("go"))
    again = orjson.dumps({"prompt": "and now?", "_chat_id": first["chat_id"]}).decode()
    talks.llm.script(
        "scripted", [Answer(calls=(Call("call_agent_team__helper", again),)), FINAL], by="round"
    )
    (second,) = results(await talk.stream("more"))
    assert second["chat_id"] == first["chat_id"]
    child = (await talk.client.get(f"/chats/{first['chat_id']}")).json()
    assert [m["content"] for m in child["messages"]] == ["help me", "fine", "and now?", "fine"]
    foreign = orjson.dumps({"prompt": "x", "_chat_id": talk.chat_id}).decode()
    talks.llm.script(
        "scripted", [Answer(calls=(Call("call_agent_team__helper", foreign),)), FINAL], by="round"
    )
    (refused,) = results(await talk.stream("yours?"))
    assert refused["error"] == "not_found"


async def test_a_failing_sub_agent_is_a_result(talks: Talks) -> None:
    await helper(talks, [Answer(status=400)])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/helper"])
    seen = await talk.stream()
    (result,) = results(seen)
    assert "400" in result["error"]
    assert result["chat_id"]
    assert text_of(seen) == "the end"


async def test_approvals_of_a_sub_agent_are_decided_at_the_top(talks: Talks) -> None:
    await make_function(
        talks.context,
        await talks.as_.user(),
        namespace="shop",
        name="danger",
        requires_approval=True,
    )
    danger = Call("shop__danger", '{"x": 1}', id="call_0")
    await helper(
        talks, [Answer(calls=(danger,)), Answer(chunks=("done it",))], enabled_functions=["shop/*"]
    )
    talk = await talks([Answer(calls=(ASK,)), FINAL], by="call", enabled_agents=["team/helper"])
    seen = await talk.stream()
    assert seen[-1].data == {"status": "suspended"}
    (asked,) = [e.data for e in seen if e.name == "approval_required"]
    assert (asked["function_name"], asked["agent"]) == ("danger", "team/helper")
    (waiting,) = (await talk.detail())["pending_approvals"]
    assert waiting["tool_call_id"] == asked["tool_call_id"] != "call_0"
    (listed,) = (await talk.client.get("/approvals")).json()
    assert listed["root_chat_id"] == talk.chat_id
    assert [t.status for t in await turns(talks)] == [TurnStatus.WAITING] * 2
    blocked = await talk.send("still there?")
    assert blocked.json()["status"] == "injected"

    body = (await talk.decide(asked["tool_call_id"], approved=True)).json()
    assert body["resume"] == "queued"
    resumed = await talk.replay(body["channel_id"])
    assert resumed[-1].data == {"status": "completed"}
    assert text_of(resumed) == "the end"
    assert await ended(talks) == [TurnStatus.COMPLETED] * 2
    # The message that came in meanwhile was seen by the next round.
    assert talks.llm.requests[-1].body["messages"][-1]["content"] == "still there?"


async def test_stopping_the_chat_stops_the_sub_agent(talks: Talks, live: str) -> None:
    await helper(talks, [Answer(chunks=("slow ", "work"), hold_after=1)])
    talk = await talks([Answer(calls=(ASK,)), FINAL], live=live, enabled_agents=["team/helper"])
    async with talk.streaming() as stream:
        await stream.read_until(
            lambda e: e.name == "sub_agent" and e.data["data"].get("content") == "slow "
        )
        answer = await talk.client.post(f"/chats/{talk.chat_id}/stop")
        assert answer.json() == {"status": "stopping", "turns": 1}
        seen = await stream.rest()
    assert seen[-1].data == {"status": "cancelled"}
    assert await ended(talks) == [TurnStatus.CANCELLED] * 2
    answer = await talk.client.post(f"/chats/{talk.chat_id}/stop")
    assert answer.json() == {"status": "idle", "turns": 0}


async def test_the_result_of_a_child_whose_worker_died_is_brought_later(talks: Talks) -> None:
    from sinas.resources.chats.jobs import settle

    await helper(talks, [Answer(chunks=("late",), hold_after=0)])
    talk = await talks([Answer(calls=(ASK,)), FINAL], enabled_agents=["team/helper"], live=None)
    sending = asyncio.create_task(talk.stream())  # noqa: TID251 - held open on purpose

    async def is_delegated() -> bool:
        return any(t.status is TurnStatus.DELEGATED for t in await turns(talks))

    await until(is_delegated)
    # As if its last write had been the last thing the child's worker did.
    async with talks.context.unit() as unit:
        await unit.session.execute(
            update(Turn)
            .where(Turn.depth == 1)
            .values(status=TurnStatus.FAILED, fence=Turn.fence + 1, error="It broke.")
        )
    await settle(talks.context)
    seen = await sending
    (result,) = results(seen)
    assert result["error"] == "It broke."
    assert names(seen)[-1] == "done"
    talks.llm.release()


async def test_a_parent_that_died_while_it_waited_for_nothing_else(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    """The child ends while nobody holds the parent: there is no worker to lose."""
    await helper(talks, [Answer(chunks=("slow ", "work"), hold_after=1)])
    talk: Talk = await talks([Answer(calls=(ASK,)), FINAL], live=live, enabled_agents=["team/*"])
    async with talk.streaming() as stream:
        await stream.read_until(lambda e: e.name == "sub_agent")
        parent = (await turns(talks))[0]
        assert (parent.status, parent.lease_owner) == (TurnStatus.DELEGATED, None)
        talks.llm.release()
        seen = await stream.rest()
    assert text_of(seen) == "the end"
