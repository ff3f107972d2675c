"""Questions of agents to their users, and turns that wait for the answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import func, update

from sinas.models import ToolCall, TurnStatus
from tests.chat.support import Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
QUESTION = Call("ask_user", '{"question": "Which one?", "options": ["red", "blue"]}', id="call_0")


async def asking(talks: Talks, *calls: Call, **agent: Any) -> Talk:
    agent.setdefault("system_tools", ["askUser"])
    return await talks([Answer(calls=calls or (QUESTION,)), FINAL], **agent)


async def answered(talk: Talk, call: str = "call_0", **body: Any) -> httpx.Response:
    return await talk.client.post(
        f"/chats/{talk.chat_id}/pending-input/{call}", json={"answer": "red", **body}
    )


async def test_a_question_ends_the_stream_and_an_answer_goes_on(talks: Talks) -> None:
    talk = await asking(talks)
    seen = await talk.stream()
    assert names(seen) == ["message", "tool_start", "input_required", "round_suspended", "done"]
    question = seen[-3].data
    assert (question["tool_call_id"], question["question"], question["options"]) == (
        "call_0",
        "Which one?",
        ["red", "blue"],
    )
    assert question["expires_at"]
    channel = (await talk.detail())["active_channel_id"]
    assert seen[-2].data == {
        "type": "round_suspended",
        "tool_call_ids": ["call_0"],
        "channel_id": channel,
    }
    assert seen[-1].data == {"status": "suspended"}
    (waiting,) = (await talk.client.get(f"/chats/{talk.chat_id}/pending-input")).json()
    assert waiting == (await talk.detail())["pending_inputs"][0]
    assert set(waiting) >= {"tool_call_id", "question", "options", "expires_at", "created_at"}

    body = (await answered(talk)).json()
    assert {k: body[k] for k in ("status", "tool_call_id", "resumed", "resume_pending")} == {
        "status": "answered",
        "tool_call_id": "call_0",
        "resumed": True,
        "resume_pending": False,
    }
    assert body["channel_id"] != channel
    resumed = await talk.replay(body["channel_id"])
    assert names(resumed) == ["tool_start", "tool_end", "message", "done"]
    assert orjson.loads(resumed[1].data["result"]) == {"answer": "red"}
    assert text_of(resumed) == "the end"
    assert (await talk.client.get(f"/chats/{talk.chat_id}/pending-input")).json() == []
    assert (await answered(talk)).status_code == 409
    assert (await answered(talk, "call_9")).status_code == 404


async def test_send_and_invoke_say_what_is_asked(talks: Talks) -> None:
    talk = await asking(talks)
    body = (await talk.send()).json()
    assert (body["status"], body["pending_inputs"][0]["question"]) == (
        "input_required",
        "Which one?",
    )
    assert body["usage"]["calls"] == 1
    agent = talk.agent
    answer = await talk.client.post(
        f"/agents/{agent.namespace}/{agent.name}/invoke", json={"message": "go", "session_key": "s"}
    )
    assert answer.json()["status"] == "input_required"
    chat_id = answer.json()["chat_id"]
    answer = await talk.client.post(
        f"/chats/{chat_id}/pending-input/call_0", json={"answer": "blue", "wait": True}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["reply"], body["message"]["content"]) == (
        "completed",
        "the end",
        "the end",
    )
    assert body["usage"]["calls"] == 1
    assert (body["chat_id"], body["tool_call_id"]) == (chat_id, "call_0")


async def test_the_next_question_is_the_answer_to_who_waits(talks: Talks) -> None:
    again = Call("ask_user", '{"question": "Sure?"}', id="call_1")
    talk = await talks(
        [Answer(calls=(QUESTION,)), Answer(calls=(again,)), FINAL], system_tools=["askUser"]
    )
    await talk.stream()
    body = (await answered(talk, wait=True)).json()
    assert (body["status"], body["pending_inputs"][0]["question"]) == ("input_required", "Sure?")
    body = (await answered(talk, "call_1", wait=True)).json()
    assert (body["status"], body["reply"]) == ("completed", "the end")


async def test_other_calls_of_the_round_run_while_it_is_asked(talks: Talks) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    second = Call("ask_user", '{"question": "And?"}', id="call_2")
    talk = await asking(
        talks,
        QUESTION,
        Call("shop__echo", '{"x": 1}', id="call_1"),
        second,
        enabled_functions=["shop/*"],
    )
    seen = await talk.stream()
    assert [e.data["tool_call_id"] for e in seen if e.name == "tool_end"] == ["call_1"]
    first = (await answered(talk)).json()
    assert (first["resumed"], first["channel_id"]) == (False, None)
    waited = (await answered(talk, "call_2", wait=True)).json()
    assert waited["reply"] == "the end"
    sent = talks.llm.requests[-1].body["messages"][-3:]
    assert [m["tool_call_id"] for m in sent] == ["call_0", "call_1", "call_2"]


async def test_a_message_instead_of_an_answer_waits_with_the_turn(talks: Talks) -> None:
    talk = await asking(talks, by="call")
    await talk.stream()
    body = (await talk.send("I do not know")).json()
    assert (body["status"], body["role"], body["content"]) == ("injected", "user", "I do not know")
    assert body["pending_inputs"][0]["tool_call_id"] == "call_0"
    stream = await talk.stream("really")
    assert names(stream)[:2] == ["injected", "done"] or stream[0].name == "injected"
    assert stream[-1].data == {"status": "suspended"}
    assert (await answered(talk, wait=True)).json()["reply"] == "the end"
    said = [m["content"] for m in talks.llm.requests[-1].body["messages"]]
    assert said[-2:] == ["I do not know", "really"]


async def test_it_is_asked_only_where_the_agent_may(talks: Talks) -> None:
    talk = await asking(talks, system_tools=[])
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] == "Unauthorized tool call"


@pytest.mark.parametrize(
    "arguments", ["{}", '{"question": " "}', '{"question": "x", "options": 3}']
)
async def test_a_question_without_words_is_for_the_model_to_mend(
    talks: Talks, arguments: str
) -> None:
    talk = await asking(talks, Call("ask_user", arguments))
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] == "Invalid arguments"


async def test_others_neither_see_nor_answer(talks: Talks) -> None:
    talk = await asking(talks)
    await talk.stream()
    stranger = await talks.as_("stranger")
    path = f"/chats/{talk.chat_id}/pending-input"
    assert (await stranger.get(path)).status_code == 404
    assert (await stranger.post(f"{path}/call_0", json={"answer": "x"})).status_code == 403
    assert (await talk.client.post(f"{path}/call_0", json={})).status_code == 422


async def test_answers_at_once_count_once(talks: Talks) -> None:
    talk = await asking(talks)
    await talk.stream()
    answers = await asyncio.gather(  # noqa: TID251 - at once is the point
        *(answered(talk) for _ in range(4))
    )
    assert sorted(a.status_code for a in answers) == [202, 409, 409, 409]
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    assert [role for role, _ in await talk.messages()].count("tool") == 1


async def test_nobody_answers(talks: Talks) -> None:
    from sinas.resources.chats.jobs import expire

    talk = await asking(talks)
    await talk.stream()
    await expire(talks.context)
    assert (await talk.turns())[-1].status is TurnStatus.WAITING
    async with talks.context.unit() as unit:
        await unit.session.execute(
            update(ToolCall).values(expires_at=func.now() - timedelta(seconds=1))
        )
    await expire(talks.context)
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    sent = orjson.loads(talks.llm.requests[-1].body["messages"][-1]["content"])
    assert sent["timed_out"] is True
    assert (await answered(talk)).status_code == 409


async def test_a_waiting_turn_can_be_stopped(talks: Talks) -> None:
    talk = await asking(talks)
    await talk.stream()
    assert (await talk.client.post(f"/chats/{talk.chat_id}/stop")).json()["turns"] == 1
    assert (await talk.idle()).status is TurnStatus.CANCELLED
    assert (await talk.detail())["pending_inputs"] == []
    assert (await answered(talk)).status_code == 409


async def test_arguments_can_be_changed_with_the_approval(talks: Talks) -> None:
    await make_function(
        talks.context, await talks.as_.user(), namespace="shop", name="echo", requires_approval=True
    )
    talk = await asking(
        talks, Call("shop__echo", '{"x": 1}', id="call_0"), enabled_functions=["shop/*"]
    )
    await talk.stream()
    await talk.decide("call_0", approved=True, arguments={"x": 2})
    assert (await talk.idle()).status is TurnStatus.COMPLETED
    made, result = talks.llm.requests[-1].body["messages"][-2:]
    assert orjson.loads(made["tool_calls"][0]["function"]["arguments"]) == {"x": 2}
    assert orjson.loads(result["content"]) == {"x": 2}


@pytest.mark.parametrize(
    ("rules", "asks"),
    [
        ({"default": "ask"}, True),
        ({"default": "ask", "rules": [{"match": "shop__*", "action": "auto"}]}, False),
        ({"rules": [{"match": "shop/echo", "action": "ask"}]}, True),
        ({"rules": [{"match": "other*", "action": "ask"}]}, False),
    ],
)
async def test_rules_say_what_needs_approval(talks: Talks, rules: Any, asks: bool) -> None:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    talk = await asking(
        talks, Call("shop__echo", "{}"), enabled_functions=["shop/*"], tool_approvals=rules
    )
    seen = await talk.stream()
    assert ("approval_required" in names(seen)) is asks


async def test_a_rule_frees_a_function_from_its_flag(talks: Talks) -> None:
    await make_function(
        talks.context, await talks.as_.user(), namespace="shop", name="echo", requires_approval=True
    )
    rules = {"rules": [{"match": "shop/*", "action": "auto"}]}
    talk = await asking(
        talks, Call("shop__echo", "{}"), enabled_functions=["shop/*"], tool_approvals=rules
    )
    assert "approval_required" not in names(await talk.stream())


async def test_earlier_results_become_references_that_can_be_read(talks: Talks) -> None:
    code = "def handler(input_data, context):\n    return 'x' * 500 + str(input_data['n'])\n"
    await make_function(
        talks.context, await talks.as_.user(), namespace="shop", name="echo", code=code
    )
    rounds = [
        Answer(calls=(Call("shop__echo", f'{{"n": {n}}}', id=f"call_{n}"),)) for n in range(7)
    ]
    back = Answer(calls=(Call("retrieve_tool_result", '{"tool_call_id": "call_0"}', id="back"),))
    talk = await talks([*rounds, back, FINAL], enabled_functions=["shop/*"])
    seen = await talk.stream()
    assert text_of(seen) == "the end"
    results = {
        m["tool_call_id"]: m["content"]
        for m in talks.llm.requests[-2].body["messages"]
        if m["role"] == "tool"
    }
    whole = [call for call, content in results.items() if "x" * 500 in content]
    assert whole == [f"call_{n}" for n in range(2, 7)]
    assert 'retrieve_tool_result("call_0")' in results["call_0"]
    got = orjson.loads(talks.llm.requests[-1].body["messages"][-1]["content"])
    assert (got["tool_call_id"], got["result"]) == ("call_0", "x" * 500 + "0")
