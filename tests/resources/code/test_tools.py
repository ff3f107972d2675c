"""Turns that run code: what the model and the user get of it, and what is on record."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import select

from sinas.models import Execution, ExecutionKind
from sinas.resources.code.tools import CodeTools
from sinas.tools.base import Call as ToolCall
from sinas.tools.base import Ok, ToolContext
from tests.chat.support import Seen, Talk, Talks, names, text_of, until
from tests.factories.artifacts import make_dependency
from tests.factories.functions import make_function
from tests.fixtures.configuration import changed
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sinas.context import AppContext
    from sinas.worker import RunningWorker

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("all ", "done"))
ENABLED: dict[str, Any] = {"system_tools": ["codeExecution"]}


def run(code: str, call_id: str = "call_1", **arguments: Any) -> Call:
    given = orjson.dumps({"code": code, **arguments}).decode()
    return Call("execute_code", given, id=call_id)


async def talk_of(talks: Talks, *calls: Call, **agent: Any) -> Talk:
    """A conversation whose model runs code, then says FINAL."""
    return await talks([Answer(calls=calls), FINAL], **{**ENABLED, **agent})


def results(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    return [orjson.loads(e.data["result"]) for e in seen if e.name == "tool_end"]


async def executions(context: AppContext) -> list[Execution]:
    async with context.sessions() as session:
        return list((await session.scalars(select(Execution).order_by(Execution.id))).all())


def png(width: int = 1) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack("!I", len(data)) + body + struct.pack("!I", zlib.crc32(body))

    head = struct.pack("!IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\x7f" * width)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


PNG_CODE = f"open('plot.png', 'wb').write({png()!r})"


async def test_code_is_run_and_its_value_reaches_the_model(talks: Talks) -> None:
    code = "import sys\nprint('hello')\nprint('careful', file=sys.stderr)\n17 + 25"
    talk = await talk_of(talks, run(code, description="Add"))
    seen = await talk.stream("add")
    assert names(seen) == ["message", "tool_start", "tool_end", "message", "done"]
    assert text_of(seen) == "all done"
    (start,) = [event.data for event in seen if event.name == "tool_start"]
    assert start["description"] == "Running code"
    (result,) = results(seen)
    duration = result.pop("duration_ms")
    assert isinstance(duration, int)
    assert result == {"stdout": "hello\n", "stderr": "careful\n", "result": 42}
    sent = talks.llm.requests[-1].body["messages"][-1]
    assert (sent["role"], orjson.loads(sent["content"])["result"]) == ("tool", 42)


async def test_the_run_is_an_execution_like_others(talks: Talks, context: AppContext) -> None:
    talk = await talk_of(talks, run("6 * 7", description="Multiply"))
    await talk.stream()
    (row,) = await executions(context)
    assert row.kind is ExecutionKind.CODE
    assert row.timeout_seconds == context.settings.function.code_execution_timeout
    listed = await talk.client.get("/executions", params={"function_name": "sinas/execute_code"})
    (shown,) = listed.json()
    assert shown["id"] == str(row.id)
    assert shown["input_data"] == {"code": "6 * 7", "description": "Multiply"}
    assert shown["output_data"] == {"result": 42}
    assert (shown["trigger_type"], shown["status"]) == ("AGENT", "COMPLETED")
    assert (shown["chat_id"], shown["tool_call_id"]) == (talk.chat_id, "call_1")


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("x = 1\nx / 0", "ZeroDivisionError: division by zero", "line 2"),
        ("def f(:", "SyntaxError: invalid syntax", "def f(:"),
        ("import yaml", 'POST /api/v1/dependencies {"package_name": "PyYAML"}', "import yaml"),
    ],
)
async def test_an_error_is_told_as_such(
    talks: Talks, code: str, error: str, traceback: str
) -> None:
    talk = await talk_of(talks, run(f"print('before')\n{code}" if "/" in code else code))
    seen = await talk.stream()
    (result,) = results(seen)
    assert error in result["error"]
    assert result["result"] is None
    assert "execute_code.py" in result["traceback"]
    if traceback != "line 2":
        assert traceback in result["traceback"]
    else:
        assert result["stdout"] == "before\n"
    assert names(seen)[-2:] == ["message", "done"]


async def test_it_has_a_time_limit(talks: Talks, context: AppContext) -> None:
    before = context.settings
    limited = changed(before, function={"code_execution_timeout": 1})
    object.__setattr__(context, "settings", limited)
    try:
        talk = await talk_of(talks, run("print('begun')\nwhile True: pass"))
        (result,) = results(await talk.stream())
    finally:
        object.__setattr__(context, "settings", before)
    assert result["error"] == "Execution timeout after 1s"
    assert result["stdout"] == "begun\n"


@pytest.mark.parametrize("arguments", ['{"code": 7}', '{"source": "1"}'])
async def test_a_wrong_call_can_be_corrected(
    talks: Talks, context: AppContext, arguments: str
) -> None:
    talk = await talk_of(talks, Call("execute_code", arguments))
    (result,) = results(await talk.stream())
    assert result["error"] == "Invalid arguments"
    assert "code" in result["message"]
    assert await executions(context) == []


@pytest.mark.parametrize("entry", ["codeExecution", {"name": "codeExecution"}])
async def test_offered_where_the_agent_has_it(
    talks: Talks, context: AppContext, entry: Any
) -> None:
    await make_dependency(context, "pandas", "2.2.0")
    talk = await talk_of(talks, run("1"), system_tools=[entry])
    await talk.stream()
    tool, _ = talks.llm.requests[0].body["tools"]
    assert tool["function"]["name"] == "execute_code"
    assert "pandas==2.2.0" in tool["function"]["description"]
    assert tool["function"]["parameters"]["required"] == ["code"]


async def test_the_description_says_when_there_are_no_packages(talks: Talks) -> None:
    await (await talk_of(talks, run("1"))).stream()
    tool, _ = talks.llm.requests[0].body["tools"]
    assert "only the standard library" in tool["function"]["description"]


@pytest.mark.parametrize("system_tools", [[], ["packageManagement"], [{"name": "other"}]])
async def test_not_run_where_the_agent_has_it_not(
    talks: Talks, context: AppContext, system_tools: list[Any]
) -> None:
    talk = await talk_of(talks, run("1"), system_tools=system_tools)
    (result,) = results(await talk.stream())
    assert result["error"] == "Unauthorized tool call"
    assert await executions(context) == []


async def test_not_run_where_the_installation_forbids_it(talks: Talks, context: AppContext) -> None:
    before = context.settings
    forbidden = changed(before, function={"code_execution_enabled": False})
    object.__setattr__(context, "settings", forbidden)
    try:
        talk = await talk_of(talks, run("1"))
        (result,) = results(await talk.stream())
    finally:
        object.__setattr__(context, "settings", before)
    assert result["error"] == "Unauthorized tool call"


async def test_two_in_one_round_run_one_after_the_other(talks: Talks, context: AppContext) -> None:
    talk = await talk_of(talks, run("import time\ntime.sleep(0.3)\n1"), run("2", "call_2"))
    assert [result["result"] for result in results(await talk.stream())] == [1, 2]
    first, second = await executions(context)
    assert first.completed_at is not None
    assert first.completed_at <= second.started_at


async def test_written_files_are_kept_for_the_user(talks: Talks, context: AppContext) -> None:
    code = (
        "import os\nos.makedirs('out')\n"
        "with open('out/t.csv', 'w') as file:\n    file.write('a,b\\n1,2\\n')\n"
        "with open('big', 'wb') as file:\n    file.truncate(11 * 1024 * 1024)\n'ok'"
    )
    talk = await talk_of(talks, run(code))
    (result,) = results(await talk.stream())
    big, table = result["files"]
    assert (big["name"], big["size_bytes"]) == ("big", 11 * 1024 * 1024)
    assert "too large" in big["error"]
    assert set(table) == {"id", "name", "media_type", "size_bytes", "url"}
    assert (table["name"], table["media_type"], table["size_bytes"]) == ("out/t.csv", "text/csv", 8)
    answer = await talk.client.get(table["url"])
    assert answer.status_code == 200
    assert answer.content == b"a,b\n1,2\n"
    (shown,) = (await talk.client.get(f"/chats/{talk.chat_id}/artifacts")).json()
    (row,) = await executions(context)
    assert {name: shown[name] for name in table} == table
    assert shown["execution_id"] == str(row.id)


async def test_files_of_a_run_that_is_repeated_are_kept_once(
    talks: Talks, context: AppContext
) -> None:
    """A turn that is taken over finds the run of the first worker."""
    talk = await talk_of(talks)
    principal = await context.authenticator.by_user((await talks.as_.user()).id)
    turn = ToolContext(principal=principal, chat_id=UUID(talk.chat_id), agent_input={})
    async with context.sessions() as session:
        (tool,) = await CodeTools(context).offer(talk.agent, turn, session)
    call = ToolCall(key="k1", call_id="call_1", arguments={"code": "open('f', 'w').close()"})
    first, second = await tool.run(call), await tool.run(call)
    assert isinstance(first, Ok)
    assert first == second
    assert len((await talk.client.get(f"/chats/{talk.chat_id}/artifacts")).json()) == 1
    assert len(await executions(context)) == 1


async def test_many_in_a_row_leave_no_sandbox_behind(
    talks: Talks, context: AppContext, function_worker: RunningWorker
) -> None:
    calls = [run(f"{number}", f"call_{number}") for number in range(30)]
    talk = await talk_of(talks, *calls)
    assert [result["result"] for result in results(await talk.stream())] == list(range(30))
    sandbox = function_worker.context.sandbox
    assert sandbox is not None

    async def settled() -> bool:
        return not sandbox.status().in_use

    await until(settled)
    assert len(sandbox.status().idle) <= 2


async def test_stopping_the_turn_kills_the_code(
    talks: Talks, context: AppContext, live: str, function_worker: RunningWorker
) -> None:
    talk = await talk_of(talks, run("while True: pass"), live=live)

    async def running() -> bool:
        return any(row.status == "RUNNING" for row in await executions(context))

    async with talk.streaming() as stream:
        await stream.read_until(lambda event: event.name == "tool_start")
        await until(running)
    await talk.idle()

    async def cancelled() -> bool:
        return [row.status for row in await executions(context)] == ["CANCELLED"]

    await until(cancelled)
    sandbox = function_worker.context.sandbox
    assert sandbox is not None

    async def free() -> bool:
        return not sandbox.status().in_use

    await until(free)


async def test_an_image_is_shown_to_the_model(talks: Talks) -> None:
    talk = await talk_of(talks, run(PNG_CODE), by="call")
    (result,) = results(await talk.stream())
    assert result["files"][0]["media_type"] == "image/png"
    sent = talks.llm.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    note, image = sent[-1]["content"]
    assert "plot.png" in note["text"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


async def test_an_image_is_stored_once_and_shown_again(talks: Talks, context: AppContext) -> None:
    talk = await talk_of(talks, run(PNG_CODE), by="call")
    await talk.stream()
    await talk.stream("and now?")
    sent = talks.llm.requests[-1].body["messages"]
    shown = [message for message in sent if isinstance(message["content"], list)]
    assert len(shown) == 1
    assert "base64" not in str(await talk.messages())
    assert "base64" not in str([row.output_data for row in await executions(context)])


async def test_only_the_newest_images_are_shown(talks: Talks) -> None:
    code = f"for n in range(7):\n    open(f'{{n}}.png', 'wb').write({png()!r})"
    talk = await talk_of(talks, run(code), by="call")
    await talk.stream()
    parts = talks.llm.requests[-1].body["messages"][-1]["content"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    assert [text.split("'")[1] for text in texts] == [f"{n}.png" for n in range(2, 7)]


async def test_what_only_pretends_to_be_an_image_is_not_shown(talks: Talks) -> None:
    talk = await talk_of(talks, run("open('a.png', 'w').write('<svg onload=alert(1)>')"))
    (result,) = results(await talk.stream())
    assert result["files"][0]["media_type"] == "application/octet-stream"
    assert talks.llm.requests[-1].body["messages"][-1]["role"] == "tool"


async def test_images_of_other_chats_are_not_shown(talks: Talks, context: AppContext) -> None:
    """Whatever a tool says: here a function names an image of another chat."""
    first = await talk_of(talks, run(PNG_CODE), by="call")
    (result,) = results(await first.stream())
    code = f"def handler(i, c):\n    return {{'files': {result['files']!r}}}"
    await make_function(context, await talks.as_.user(), code, namespace="shop", name="claims")
    call = Call("shop__claims")
    for talk in (first, await talk_of(talks, enabled_functions=["shop/claims"])):
        talks.llm.script("scripted", [Answer(calls=(call,)), FINAL])
        await talk.client.put(
            f"/api/v1/agents/{talk.agent.namespace}/{talk.agent.name}",
            json={"enabled_functions": ["shop/claims"]},
        )
        await talk.stream()
        last = talks.llm.requests[-1].body["messages"][-1]["role"]
        assert last == ("user" if talk is first else "tool")


async def test_a_model_that_takes_no_images_goes_on_without(talks: Talks) -> None:
    answers = [Answer(calls=(run(PNG_CODE),)), Answer(status=400), FINAL]
    talk = await talks(answers, by="call", **ENABLED)
    seen = await talk.stream()
    assert text_of(seen) == "all done"
    before, after = (request.body["messages"] for request in list(talks.llm.requests)[-2:])
    assert [message["role"] for message in before][-2:] == ["tool", "user"]
    assert [message["role"] for message in after][-1] == "tool"
