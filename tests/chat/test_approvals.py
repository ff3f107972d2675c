"""Calls that wait for a person."""

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, update

from sinas.models import Execution, ToolGrant, Turn
from tests.chat.support import Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
SUSPENDED = {"status": "suspended"}


async def dangerous(talks: Talks, *calls: Call, **agent: Any) -> Talk:
    """A conversation whose model makes `calls`; shop/danger needs approval, shop/echo not."""
    user = await talks.as_.user()
    for name, asks in (("danger", True), ("echo", False)):
        await make_function(
            talks.context, user, namespace="shop", name=name, requires_approval=asks
        )
    return await talks([Answer(calls=calls), FINAL], enabled_functions=["shop/*"], **agent)


async def executed(talk: Talk) -> list[str]:
    async with talk.context.sessions() as session:
        return sorted(await session.scalars(select(Execution.function_name)))


async def test_approving_runs_the_call_and_goes_on(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", '{"x": "hello"}', id="call_0"))
    seen = await talk.stream()
    assert names(seen) == ["message", "approval_required", "done"]
    assert seen[-2].data == {
        "type": "approval_required",
        "tool_call_id": "call_0",
        "function_namespace": "shop",
        "function_name": "danger",
        "arguments": {"x": "hello"},
    }
    assert seen[-1].data == SUSPENDED
    assert await executed(talk) == []
    detail = await talk.detail()
    (waiting,) = detail["pending_approvals"]
    assert waiting.pop("created_at")
    assert waiting == {
        "tool_call_id": "call_0",
        "chat_id": talk.chat_id,
        "function_namespace": "shop",
        "function_name": "danger",
        "name": "shop__danger",
        "arguments": {"x": "hello"},
        "expires_at": None,
    }
    first_channel = detail["active_channel_id"]

    answer = await talk.decide("call_0", approved=True)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["status"], body["resume"], body["tool_call_id"]) == (
        "approved",
        "queued",
        "call_0",
    )
    assert body["channel_id"] != first_channel
    assert body["channel_id"] in body["message"]
    resumed = await talk.replay(body["channel_id"])
    assert names(resumed) == ["tool_start", "tool_end", "message", "done"]
    assert text_of(resumed) == "the end"
    assert await executed(talk) == ["danger"]
    assert (await talk.detail())["pending_approvals"] == []
    assert await talk.replay(first_channel) == seen
    assert (await talk.decide("call_0", approved=True)).status_code == 404


async def test_rejecting_is_a_result_and_the_model_goes_on(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    await talk.stream()
    body = (await talk.decide("call_0", approved=False)).json()
    assert (body["status"], body["resume"]) == ("rejected", "queued")
    seen = await talk.replay(body["channel_id"])
    assert seen[0].name == "message"
    assert seen[0].data == {
        "type": "tool_rejected",
        "tool_call_id": "call_0",
        "function_namespace": "shop",
        "function_name": "danger",
    }
    assert text_of(seen[1:]) == "the end"
    assert await executed(talk) == []
    assert [role for role, _ in await talk.messages()] == ["user", "assistant", "tool", "assistant"]
    sent = talks.llm.requests[-1].body["messages"][-1]
    assert orjson.loads(sent["content"])["error"] == "Rejected"


async def test_each_decision_is_for_its_own_call(talks: Talks) -> None:
    talk = await dangerous(
        talks,
        Call("shop__danger", '{"n": 1}', id="call_a"),
        Call("shop__echo", '{"n": 2}', id="call_b"),
        Call("shop__danger", '{"n": 3}', id="call_c"),
    )
    seen = await talk.stream()
    asked = [e.data["tool_call_id"] for e in seen if e.name == "approval_required"]
    assert asked == ["call_a", "call_c"]
    assert await executed(talk) == []
    first = (await talk.decide("call_c", approved=True)).json()
    assert first["resume"] == "waiting"
    assert [p["tool_call_id"] for p in (await talk.detail())["pending_approvals"]] == ["call_a"]
    assert await executed(talk) == []
    second = (await talk.decide("call_a", approved=False)).json()
    assert second["resume"] == "queued"
    assert second["channel_id"] == first["channel_id"]
    resumed = await talk.replay(second["channel_id"])
    assert sorted(e.data["tool_call_id"] for e in resumed if e.name == "tool_end") == [
        "call_b",
        "call_c",
    ]
    assert await executed(talk) == ["danger", "echo"]
    results = talks.llm.requests[-1].body["messages"][-3:]
    assert [m["tool_call_id"] for m in results] == ["call_a", "call_b", "call_c"]
    assert "Rejected" in results[0]["content"]


async def test_two_people_deciding_at_once(talks: Talks) -> None:
    ids = [f"call_{n}" for n in range(4)]
    talk = await dangerous(talks, *(Call("shop__danger", id=call) for call in ids))
    await talk.stream()
    answers = await asyncio.gather(  # noqa: TID251 - both at once is the point
        *(talk.decide(call, approved=True) for call in ids for _ in range(2))
    )
    assert sorted(a.status_code for a in answers) == [202] * 4 + [404] * 4
    taken = [a.json() for a in answers if a.status_code == 202]
    assert sorted(t["resume"] for t in taken) == ["queued"] + ["waiting"] * 3
    assert len({t["channel_id"] for t in taken}) == 1
    await talk.idle()
    assert await executed(talk) == ["danger"] * 4


async def test_always_allow_is_remembered_for_the_chat_and_the_tool(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    await talk.stream()
    await talk.decide("call_0", approved=True, always_allow=True)
    await talk.idle()
    assert "approval_required" not in names(await talk.stream("again"))
    other = await talks.open(talk.client, talk.agent)
    assert "approval_required" in names(await other.stream())
    async with talk.context.unit() as unit:
        await unit.session.execute(
            update(ToolGrant).values(expires_at=func.now() - func.make_interval(0, 0, 0, 1))
        )
    assert "approval_required" in names(await talk.stream("expired"))


async def test_the_same_id_waits_in_two_chats(talks: Talks) -> None:
    first = await dangerous(talks, Call("shop__danger", '{"c": 1}', id="call_0"))
    second = await talks.open(first.client, first.agent)
    await first.stream()
    await second.stream()
    body = (await second.decide("call_0", approved=True)).json()
    await second.replay(body["channel_id"])
    assert (await second.idle()).status == "completed"
    assert (await first.idle()).status == "waiting"
    assert len((await first.detail())["pending_approvals"]) == 1


async def test_approving_twice_in_one_turn_uses_a_channel_for_each(talks: Talks) -> None:
    talk = await dangerous(talks)
    ask = Answer(calls=(Call("shop__danger", id="call_0"),))
    talks.llm.script("scripted", [ask, ask, FINAL], by="round")
    await talk.stream()
    channels = []
    for _ in range(2):
        (waiting,) = (await talk.detail())["pending_approvals"]
        body = (await talk.decide(waiting["tool_call_id"], approved=True)).json()
        channels.append(body["channel_id"])
        await talk.replay(body["channel_id"])
    assert text_of(await talk.replay(channels[-1])) == "the end"
    assert len(set(channels)) == 2
    assert names(await talk.replay(channels[0])) == [
        "tool_start", "tool_end", "message", "approval_required", "done"
    ]  # fmt: skip


async def test_blocking_calls_answer_that_a_person_is_needed(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    answer = await talk.send()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["role"]) == ("in_progress", "assistant")
    assert [p["tool_call_id"] for p in body["pending_approvals"]] == ["call_0"]
    assert body["channel_id"] == (await talk.detail())["active_channel_id"]
    agent = talk.agent
    answer = await talk.client.post(
        f"/agents/{agent.namespace}/{agent.name}/invoke", json={"message": "go"}
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "in_progress")


async def test_who_may_decide(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    await talk.stream()
    path = f"/chats/{talk.chat_id}/approve-tool/call_0"
    stranger = await talks.as_("stranger")
    assert (await stranger.post(path, json={"approved": True})).status_code == 403
    assert (await talk.decide("call_9", approved=True)).status_code == 404
    assert (await talk.client.post(path, json={})).status_code == 422
    assert await executed(talk) == []


async def test_a_message_is_answered_while_a_call_waits(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    await talk.stream()
    talks.llm.script("scripted", [FINAL])
    assert text_of(await talk.stream("never mind")) == "the end"
    sent = talks.llm.requests[-1].body["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2]["content"] == "[Error: function call was interrupted or timed out]"
    body = (await talk.decide("call_0", approved=True)).json()
    assert text_of(await talk.replay(body["channel_id"])) == "the end"


async def test_leaving_at_the_question_does_not_stop_what_is_approved_later(
    talks: Talks, live: str
) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"), live=live)
    async with talk.streaming() as stream:
        await stream.read_until(lambda event: event.name == "approval_required")
    await asyncio.sleep(2.5)
    body = (await talk.decide("call_0", approved=True)).json()
    await talk.replay(body["channel_id"])
    assert (await talk.idle()).status == "completed"
    assert await executed(talk) == ["danger"]


async def test_a_question_nobody_could_ask_is_asked_from_the_journal(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    seen = await talk.stream()
    channel = (await talk.detail())["active_channel_id"]
    # As if the worker had died between the commit and what it had to say.
    key = f"sinas:stream:{channel}"
    await talk.context.redis.xdel(key, seen[-1].id, seen[-2].id)
    again = await talk.replay(channel, seen[-3].id)
    assert [(e.name, e.data) for e in again] == [(e.name, e.data) for e in seen[-2:]]
    await talk.context.redis.delete(key)
    assert names(await talk.replay(channel)) == ["approval_required", "done"]


async def test_an_agent_deleted_meanwhile_answers_without_its_tools(talks: Talks) -> None:
    talk = await dangerous(talks, Call("shop__danger", id="call_0"))
    await talk.stream()
    admin = await talks.as_("admin")
    path = f"/api/v1/agents/{talk.agent.namespace}/{talk.agent.name}"
    assert (await admin.delete(path)).status_code == 204
    body = (await talk.decide("call_0", approved=True)).json()
    seen = await talk.replay(body["channel_id"])
    assert seen[-1].name == "error"
    assert "no LLM provider" in seen[-1].data["error"]
    assert await executed(talk) == []
    async with talk.context.sessions() as session:
        assert await session.scalar(select(Turn.status)) == "failed"
