"""Turns that call functions."""

from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from sinas.models import Execution, Function, ToolCall, Turn
from tests.chat.support import Seen, Talk, Talks, names, text_of
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call, words

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("all ", "done"))
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "string"}, "n": {"type": "integer"}},
}


async def with_function(talks: Talks, calls: tuple[Call, ...], **agent: Any) -> Talk:
    """A conversation whose model makes `calls` of `shop/echo`, then says FINAL."""
    options = agent.pop("function", {})
    await make_function(
        talks.context,
        await talks.as_.user(),
        namespace="shop",
        name="echo",
        input_schema=options.pop("input_schema", SCHEMA),
        **options,
    )
    agent.setdefault("enabled_functions", ["shop/echo"])
    return await talks([Answer(chunks=("Let me look",), calls=calls), FINAL], **agent)


async def executions(talk: Talk) -> list[Execution]:
    async with talk.context.sessions() as session:
        return list((await session.scalars(select(Execution).order_by(Execution.id))).all())


def tool_events(seen: list[Seen]) -> list[tuple[str, Any]]:
    return [(e.name, e.data) for e in seen if e.name.startswith("tool_")]


async def test_a_tool_call_from_start_to_answer(talks: Talks) -> None:
    call = Call("shop__echo", '{"x": "hello", "n": 3}', id="call_a1")
    talk = await with_function(talks, (call,))
    seen = await talk.stream("use the tool")
    assert names(seen) == ["message", "tool_start", "tool_end", "message", "done"]
    stored = str(tool_events(seen)[1][1]["result"])
    assert tool_events(seen) == [
        (
            "tool_start",
            {
                "type": "tool_start",
                "tool_call_id": "call_a1",
                "name": "shop__echo",
                "arguments": call.arguments,
                "description": "Running echo",
            },
        ),
        (
            "tool_end",
            {
                "type": "tool_end",
                "tool_call_id": "call_a1",
                "name": "shop__echo",
                "result": stored,
            },
        ),
    ]
    assert orjson.loads(stored) == {"x": "hello", "n": 3}
    deltas = [d for e in seen for d in (e.data or {}).get("tool_calls") or []]
    assert "".join(d["function"]["arguments"] for d in deltas) == call.arguments
    assert {d["index"] for d in deltas} == {0}
    reasons = [e.data["finish_reason"] for e in seen if (e.data or {}).get("finish_reason")]
    assert reasons == ["tool_calls", "stop"]

    messages = (await talk.detail())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["content"] == "Let me look"
    assert messages[1]["tool_calls"] == [
        {
            "id": "call_a1",
            "type": "function",
            "function": {"name": "shop__echo", "arguments": call.arguments},
            "description": "Running echo",
        }
    ]
    assert (messages[2]["tool_call_id"], messages[2]["name"]) == ("call_a1", "shop__echo")
    assert messages[2]["content"] == stored
    assert messages[3]["content"] == "all done"
    (execution,) = await executions(talk)
    assert execution.tool_call_id == "call_a1"
    assert str(execution.chat_id) == talk.chat_id

    second = talks.llm.requests[-1].body["messages"]
    assert [m["role"] for m in second] == ["user", "assistant", "tool"]
    assert "description" not in second[1]["tool_calls"][0]
    assert await talk.replay() == seen


async def test_two_calls_of_one_round_run_at_the_same_time(talks: Talks) -> None:
    code = (
        "import time\n"
        "def handler(input_data, context):\n"
        "    time.sleep(0.5)\n"
        "    return {'at': time.time(), 'x': input_data['x']}\n"
    )
    calls = (
        Call("shop__echo", '{"x": "a"}', id="call_0"),
        Call("shop__echo", '{"x": "b"}', id="call_1"),
    )
    talk = await with_function(talks, calls, function={"code": code})
    seen = await talk.stream()
    assert [e.name for e in seen if e.name.startswith("tool_")] == ["tool_start"] * 2 + [
        "tool_end"
    ] * 2
    first, second = await executions(talk)
    starts = [run.started_at for run in (first, second)]
    ends = [run.completed_at for run in (first, second) if run.completed_at]
    assert max(starts) < min(ends)
    results = {
        e.data["tool_call_id"]: orjson.loads(e.data["result"])["x"]
        for e in seen
        if e.name == "tool_end"
    }
    assert results == {"call_0": "a", "call_1": "b"}


@pytest.mark.parametrize("with_index", [True, False])
async def test_repeated_call_ids_are_told_apart(talks: Talks, with_index: bool) -> None:
    calls = (
        Call("shop__echo", '{"x": "a"}', id="call_0", with_index=with_index),
        Call("shop__echo", '{"x": "b"}', id="call_0", with_index=with_index),
    )
    talk = await with_function(talks, calls)
    await talk.stream("one")
    seen = await talk.stream("two")
    stored = (await talk.detail())["messages"]
    ids = [call["id"] for m in stored for call in m["tool_calls"] or ()]
    answered = [m["tool_call_id"] for m in stored if m["role"] == "tool"]
    assert len(set(ids)) == 4
    assert sorted(ids) == sorted(answered)
    assert len(await executions(talk)) == 4
    by_id = {call["id"]: call for m in stored for call in m["tool_calls"] or ()}
    for message in stored:
        if message["role"] == "tool":
            call = by_id[message["tool_call_id"]]
            assert orjson.loads(message["content"]) == orjson.loads(call["function"]["arguments"])
    ended = [e.data["tool_call_id"] for e in seen if e.name == "tool_end"]
    assert set(ended) == set(ids[2:])


async def test_the_same_call_id_in_two_chats(talks: Talks) -> None:
    first = await with_function(talks, (Call("shop__echo", '{"x": "a"}', id="call_0"),))
    second = await talks.open(first.client, first.agent)
    for talk in (first, second):
        assert text_of(await talk.stream()).endswith("all done")
        roles = [m["tool_call_id"] for m in (await talk.detail())["messages"] if m["tool_call_id"]]
        assert roles == ["call_0"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (Call("shop__echo", '{"x": '), "Invalid arguments"),
        (Call("shop__echo", "[1]"), "Invalid arguments"),
        (Call("shop__echo", '{"n": "many"}'), "Invalid arguments"),
        (Call("execute_code", '{"code": "1"}'), "Unauthorized tool call"),
        (Call("get_skill_a_b"), "Unauthorized tool call"),
        (Call("continue_execution", '{"execution_id": "x"}'), "Unauthorized tool call"),
        (Call("shop__hidden"), "Unauthorized tool call"),
    ],
)
async def test_calls_that_cannot_run_get_a_result_that_says_so(
    talks: Talks, call: Call, error: str
) -> None:
    user = await talks.as_.user()
    await make_function(talks.context, user, namespace="shop", name="hidden")
    talk = await with_function(talks, (call,))
    seen = await talk.stream()
    assert names(seen)[-2:] == ["message", "done"]
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] == error
    assert result["message"]
    assert all(e.status == "FAILED" for e in await executions(talk))
    sent = talks.llm.requests[-1].body["messages"][1]["tool_calls"][0]["function"]
    assert isinstance(orjson.loads(sent["arguments"]), dict)
    assert text_of(await talk.stream("next")).endswith("all done")


async def test_a_missing_id_and_a_missing_index(talks: Talks) -> None:
    call = Call("shop__echo", '{"x": "a"}', id=None, with_index=False)
    talk = await with_function(talks, (call,))
    seen = await talk.stream()
    (end,) = [e for e in seen if e.name == "tool_end"]
    assert end.data["tool_call_id"]
    assert orjson.loads(end.data["result"]) == {"x": "a"}


async def test_a_function_that_fails_is_a_result(talks: Talks) -> None:
    code = "def handler(input_data, context):\n    raise ValueError('no such order')\n"
    talk = await with_function(talks, (Call("shop__echo"),), function={"code": code})
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] == "Function execution failed"
    assert "no such order" in result["message"]
    assert names(seen)[-2:] == ["message", "done"]


async def test_a_long_result_stays_valid_json_for_the_model(talks: Talks) -> None:
    code = "def handler(input_data, context):\n    return ['row ' * 10] * 5000\n"
    talk = await with_function(talks, (Call("shop__echo"),), function={"code": code})
    await talk.stream()
    sent = talks.llm.requests[-1].body["messages"][-1]["content"]
    result = orjson.loads(sent)
    assert result["_truncated"] is True
    assert result["total"] == 5000
    assert len(result["items"]) == result["returned"] > 100
    async with talk.context.sessions() as session:
        kept: Any = await session.scalar(select(ToolCall.result))
    assert (kept["_truncated"], kept["_original_size"]) == (True, 220_000)
    assert kept["_preview"].startswith('["row row ')


async def test_parameters_of_the_agent_are_fixed_or_default(talks: Talks) -> None:
    schema = {
        "type": "object",
        "properties": {k: {"type": "string"} for k in ("x", "who", "lang")},
        "required": ["x", "who", "lang"],
    }
    parameters = {
        "shop/echo": {
            "who": {"value": "{{ customer }}", "locked": True},
            "lang": {"value": "de"},
        }
    }
    call = Call("shop__echo", '{"x": "1", "who": "somebody else"}')
    talk = await with_function(
        talks,
        (call,),
        function={"input_schema": schema},
        function_parameters=parameters,
        chat={"input": {"customer": "Ann"}},
    )
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result == {"x": "1", "who": "Ann", "lang": "de"}
    offered = talks.llm.requests[0].body["tools"][0]["function"]["parameters"]
    assert set(offered["properties"]) == {"x", "lang"}
    assert offered["required"] == ["x"]
    assert offered["properties"]["lang"]["default"] == "de"


async def test_a_fixed_parameter_that_cannot_be_rendered_fails_the_call(talks: Talks) -> None:
    parameters = {"shop/echo": {"who": {"value": "{{ customer }}", "locked": True}}}
    talk = await with_function(
        talks,
        (Call("shop__echo", '{"who": "somebody else"}'),),
        function={"input_schema": {"type": "object", "properties": {"who": {"type": "string"}}}},
        function_parameters=parameters,
        chat={"input": {"other": 1}},
    )
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] == "Function execution failed"
    assert "who" in result["message"]
    assert await executions(talk) == []


async def test_status_texts_are_templates_over_the_arguments(talks: Talks) -> None:
    templates = {"function:shop/echo": "Looking for {{ x }}"}
    talk = await with_function(
        talks, (Call("shop__echo", '{"x": "7"}'),), status_templates=templates
    )
    seen = await talk.stream()
    assert [e.data["description"] for e in seen if e.name == "tool_start"] == ["Looking for 7"]
    talks.llm.script("scripted", [Answer(calls=(Call("shop__echo", "{}"),)), FINAL], by="round")
    seen = await talk.stream("without the argument")
    assert [e.data["description"] for e in seen if e.name == "tool_start"] == ["Running echo"]


async def test_rounds_have_a_limit(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(talks.context.settings.chat), "max_tool_iterations", 2)
    talk = await with_function(talks, (Call("shop__echo", '{"x": "a"}'),))
    talks.llm.script("scripted", [Answer(calls=(Call("shop__echo", '{"x": "a"}'),))])
    seen = await talk.stream()
    assert seen[-1].name == "error"
    assert seen[-1].data["error"] == (
        "Tool iteration limit (2) reached. Stopping to prevent runaway loops."
    )
    assert len(await executions(talk)) == 2
    talks.llm.script("scripted", [words(2)])
    assert text_of(await talk.stream("next")) == words(2).text


async def test_rights_taken_away_stop_tools_of_running_chats(talks: Talks) -> None:
    talk = await with_function(talks, (Call("shop__echo", '{"x": "a"}'),))
    owner = await talks.as_.user("somebody")
    async with talk.context.unit() as unit:
        await unit.session.execute(update(Function).values(user_id=owner.id))
    seen = await talk.stream()
    (result,) = [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]
    assert result["error"] in ("Permission denied", "Unauthorized tool call")
    assert await executions(talk) == []


async def test_leaving_during_a_tool_call_ends_the_turn_and_the_next_one_knows(
    talks: Talks, live: str
) -> None:
    code = "import time\ndef handler(input_data, context):\n    time.sleep(4)\n    return 1\n"
    talk = await with_function(talks, (Call("shop__echo"),), function={"code": code}, live=live)
    async with talk.streaming() as stream:
        await stream.read_until(lambda event: event.name == "tool_start")
    turn = await talk.idle()
    assert turn.status == "cancelled"
    async with talk.context.sessions() as session:
        assert await session.scalar(select(ToolCall.status)) == "interrupted"
    talks.llm.script("scripted", [FINAL])
    assert text_of(await talk.stream("next")) == "all done"
    sent = talks.llm.requests[-1].body["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2]["content"] == "[Error: function call was interrupted or timed out]"


async def test_what_a_turn_reads_before_it_asks_the_model(talks: Talks, query_counter: Any) -> None:
    talk = await with_function(talks, (Call("shop__echo", '{"x": "a"}'),))
    talks.llm.script("scripted", [FINAL])
    await talk.stream("warm")
    with query_counter() as queries:
        await talk.stream("counted")
    started = next(
        i for i, s in enumerate(queries.statements) if s.startswith("UPDATE turns SET status")
    )
    after = queries.statements[started + 1 :]
    ended = next(i for i, s in enumerate(after) if not s.lstrip().startswith("SELECT"))
    assert ended == 3, after[:ended]


async def test_usage_is_counted_over_all_rounds(talks: Talks) -> None:
    talk = await with_function(talks, (Call("shop__echo", '{"x": "a"}'),))
    sent = (await talk.send()).json()
    assert sent["usage"]["calls"] == 2
    assert sent["usage"]["total_tokens"] == (
        sent["usage"]["prompt_tokens"] + sent["usage"]["completion_tokens"]
    )
    assert sent["usage"]["completion_tokens"] > 0
    assert (sent["usage"]["cost_usd"], sent["usage"]["unpriced_calls"]) == (None, 2)
    async with talk.context.sessions() as session:
        assert await session.scalar(select(Turn.rounds)) == 1


async def test_a_function_that_asks_is_continued_in_a_later_turn(talks: Talks) -> None:
    code = "def handler(i, c):\n    return {'paid to': input('To whom?')}"
    function = {"code": code, "shared_pool": True}
    talk = await with_function(talks, (Call("shop__echo", "{}"),), function=function)
    await talk.stream("pay")
    (execution,) = await executions(talk)
    paused = {
        "status": "awaiting_input",
        "execution_id": str(execution.id),
        "prompt": "To whom?",
    }
    messages = (await talk.detail())["messages"]
    assert [orjson.loads(m["content"]) for m in messages if m["role"] == "tool"] == [paused]

    arguments = orjson.dumps({"execution_id": str(execution.id), "input": {"value": "Ada"}})
    go_on = Call("continue_execution", arguments.decode())
    talks.llm.script("scripted", [Answer(calls=(go_on,)), FINAL])
    seen = await talk.stream("to Ada")
    (end,) = [data for name, data in tool_events(seen) if name == "tool_end"]
    assert orjson.loads(end["result"]) == {"paid to": "Ada"}
    offered = [tool["function"]["name"] for tool in talks.llm.requests[-1].body["tools"]]
    assert "continue_execution" in offered
    talks.llm.script("scripted", [FINAL])
    await talk.stream("thanks")
    later = [tool["function"]["name"] for tool in talks.llm.requests[-1].body["tools"]]
    assert "continue_execution" not in later
