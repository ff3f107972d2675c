"""Turns as one trace, from the request to the function's call back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.chat.support import Talk, Talks
from tests.chat.test_takeover import expire
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.fixtures.state import in_own_task
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter
    from tests.support.llm_upstream import LlmUpstream
    from tests.support.otlp_receiver import OtlpReceiver
    from tests.tracing.conftest import Platform, Tracing

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = {"traceparent": CALLER}
MESSAGE = "POST /chats/{chat_id}/messages"
# Asks the API who it is, as somebody who passes the trace on.
CALLS_BACK = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + "/auth/me",
        headers={"Authorization": "Bearer " + context["access_token"],
                 "traceparent": context["traceparent"]},
    )
    return {"said": input_data["x"], "me": json.load(urllib.request.urlopen(request))["email"]}
"""
TOOL = Call("shop__echo", '{"x": "private"}', id="call_a1")
ANSWERS = [Answer(chunks=("Let me look",), calls=(TOOL,)), Answer(chunks=("all ", "done"))]


@pytest.fixture
def talks(context: AppContext, as_: SignIn, llm: LlmUpstream) -> Talks:
    return Talks(context, as_, llm)


async def with_function(talks: Talks, platform: Platform, **agent: Any) -> Talk:
    options = agent.pop("function", {})
    await make_function(
        talks.context, await talks.as_.user(), CALLS_BACK, namespace="shop", name="echo", **options
    )
    agent.setdefault("enabled_functions", ["shop/echo"])
    return await talks(ANSWERS, live=platform.url, namespace="shop", name="clerk", **agent)


async def say(talk: Talk, content: str = "my private question", **headers: str) -> dict[str, Any]:
    path = f"/chats/{talk.chat_id}/messages"
    answer = await talk.client.post(path, json={"content": content}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_one_trace_for_one_message(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    async with tracing.platform("agents", "functions") as platform:
        talk = await with_function(talks, platform)
        await say(talk, **TRACED)
    request = receiver.one(MESSAGE)
    assert receiver.tree(request) == (
        MESSAGE,
        [
            (
                "conversation.turn",
                [
                    ("llm.call", []),
                    (
                        "execute_tool shop__echo",
                        [("function.job", [("GET /auth/me", [])])],
                    ),
                    ("llm.call", []),
                ],
            )
        ],
    )
    tree = [span for span in receiver.spans if span.trace_id == CALLER[3:35]]
    assert len(tree) == 7
    assert request.parent_id == CALLER[36:52]

    user = await talks.as_.user()
    about = {
        "gen_ai.conversation.id": talk.chat_id,
        "session.id": talk.chat_id,
        "user.id": str(user.id),
        "gen_ai.agent.name": "shop/clerk",
        "sinas.labels": ["agent:shop/clerk"],
    }
    turn = receiver.one("conversation.turn")
    (row,) = await talk.turns()
    assert turn.attributes == about | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": str(talk.agent.id),
        "sinas.turn.id": str(row.id),
        "sinas.turn.run": 1,
    }
    assert receiver.one("execute_tool shop__echo").attributes == about | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "shop__echo",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_a1",
    }
    for call in receiver.named("llm.call"):
        assert call.attributes.items() >= about.items()
        assert call.attributes["gen_ai.usage.input_tokens"] > 0
    job = receiver.one("function.job")
    assert job.attributes["gen_ai.conversation.id"] == talk.chat_id
    assert job.attributes["sinas.execution.trigger"] == "AGENT"
    assert not any(span.is_error for span in tree)
    for private in (b"private", b"all done", b"Let me look", b"example.com"):
        assert private not in receiver.raw


async def test_content_where_it_is_asked_for(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    async with tracing.platform("agents", "functions", capture_content=True) as platform:
        talk = await with_function(talks, platform)
        await say(talk)
    turn = receiver.one("conversation.turn").attributes
    assert json.loads(turn["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "my private question"}]}
    ]
    assert json.loads(turn["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "all done"}]}
    ]
    tool = receiver.one("execute_tool shop__echo").attributes
    assert tool["gen_ai.tool.call.arguments"] == TOOL.arguments
    assert json.loads(tool["gen_ai.tool.call.result"])["said"] == "private"
    job = receiver.one("function.job").attributes
    assert json.loads(job["input.value"]) == {"x": "private"}
    second = json.loads(receiver.named("llm.call")[1].attributes["gen_ai.input.messages"])
    assert [message["role"] for message in second][-2:] == ["assistant", "tool"]


async def test_a_turn_that_is_taken_over_stays_in_its_trace(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    from sinas.worker import open_worker

    async with tracing.platform("agents") as platform:
        talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=platform.url)
        async with talk.streaming() as stream:
            await stream.text("one ")
            talks.llm.script("scripted", [Answer(chunks=("one ", "two"))])
            async with in_own_task(open_worker("agents", platform.context)):
                await expire(platform.workers[0])
                await stream.rest()
                await talk.idle()
        talks.llm.release()  # the first worker finds that its turn is gone
    request = receiver.one(MESSAGE + "/stream")
    runs = receiver.named("conversation.turn")
    assert [run.parent_id for run in runs] == [request.id, request.id]
    assert [run.attributes["sinas.turn.run"] for run in runs] == [1, 2]
    lost, whole = runs
    assert lost.attributes["error.type"] == "lease_lost"
    assert not whole.is_error
    assert [call.name for call in receiver.children(lost)] == ["llm.call"]


async def test_approvals_days_later_go_on_in_the_trace_of_the_message(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    async with tracing.platform("agents", "functions") as platform:
        talk = await with_function(talks, platform, function={"requires_approval": True})
        await say(talk, **TRACED)
        approved = await talk.decide("call_a1", approved=True)
        assert approved.status_code == 202, approved.text
        await talk.idle()
    request = receiver.one(MESSAGE)
    asked, approved_run = receiver.named("conversation.turn")
    assert asked.parent_id == approved_run.parent_id == request.id
    assert [span.name for span in receiver.children(asked)] == ["llm.call"]
    assert [span.name for span in receiver.children(approved_run)] == [
        "execute_tool shop__echo",
        "llm.call",
    ]


async def test_a_sub_agent_is_part_of_the_trace(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    talks.llm.script("helper", [Answer(chunks=("I did",))], by="round")
    helper = await make_agent(
        talks.context,
        await talks.as_.user(),
        provider=await make_provider(talks.context, talks.llm.openai_url),
        namespace="team",
        name="helper",
        model="helper",
    )
    call = Call("call_agent_team__helper", '{"prompt": "help me"}', id="call_0")
    async with tracing.platform("agents") as platform:
        talk = await talks(
            [Answer(calls=(call,)), Answer(chunks=("the end",))],
            live=platform.url,
            enabled_agents=["team/helper"],
        )
        await say(talk)
    request = receiver.one(MESSAGE)
    first, second = receiver.named("conversation.turn")
    assert receiver.tree(first)[1] == [
        ("llm.call", []),
        ("agent.delegate", [("agent.job", [("llm.call", [])])]),
    ]
    assert receiver.tree(second)[1] == [("llm.call", [])]
    assert first.parent_id == second.parent_id == request.id
    job = receiver.one("agent.job")
    assert job.attributes["gen_ai.agent.id"] == str(helper.id)
    assert job.attributes["gen_ai.agent.name"] == "team/helper"
    assert receiver.one("agent.delegate").attributes["gen_ai.tool.call.id"] == "call_0"


async def test_failures_say_their_type(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    made_up = Call("no_such_tool_at_all", "{}", id="call_1")
    broken = Call("shop__echo", '{"x": ', id="call_2")
    async with tracing.platform("agents", "functions") as platform:
        talk = await with_function(talks, platform)
        answers = [Answer(calls=(made_up, broken)), Answer(status=500, body='{"error": "ada"}')]
        talks.llm.script("scripted", answers, by="round")
        await talk.send()
    turn = receiver.one("conversation.turn")
    assert turn.is_error
    assert turn.attributes["error.type"] == "upstream_error"
    assert receiver.named("llm.call")[1].attributes["error.type"] == "500"
    unknown, unread = receiver.one("execute_tool"), receiver.one("execute_tool shop__echo")
    assert unknown.attributes["error.type"] == "Unauthorized tool call"
    assert unread.attributes["error.type"] == "invalid_arguments"
    assert "gen_ai.tool.name" not in unknown.attributes
    for private in (b"ada", b"no_such_tool"):
        assert private not in receiver.raw


async def test_a_stopped_turn_is_no_error(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks
) -> None:
    async with tracing.platform("agents") as platform:
        talk = await talks([Answer(chunks=("one ", "two"), hold_after=1)], live=platform.url)
        async with talk.streaming() as stream:
            await stream.text("one ")
            stopped = await talk.client.post(f"/chats/{talk.chat_id}/stop")
            assert stopped.status_code == 202, stopped.text
            await stream.rest()
        await talk.idle()
    turn = receiver.one("conversation.turn")
    assert not turn.is_error
    assert turn.attributes["sinas.cancelled"] is True


async def test_an_endpoint_that_is_gone_disturbs_no_turn(
    tracing: Tracing, receiver: OtlpReceiver, talks: Talks, query_counter: QueryCounter
) -> None:
    receiver.status = 503
    counts = []
    for telemetry in ({"enabled": False}, {}):
        async with tracing.platform("agents", **telemetry) as platform:
            talk = await talks([Answer(chunks=("all ", "done"))], live=platform.url)
            await say(talk)
            with query_counter() as queries:
                assert (await say(talk))["content"] == "all done"
            counts.append([s for s in queries.statements if "workers" not in s])
    assert len(counts[0]) == len(counts[1])
