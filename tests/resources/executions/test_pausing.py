"""`input()` of shared functions: pauses, answers over HTTP and by agents, and bad ends."""

import asyncio
import dataclasses
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import update

from sinas.context import AppContext
from sinas.errors import InvalidInputError
from sinas.kit.json_types import JsonObject
from sinas.models import Execution, ExecutionStatus, Function
from sinas.resources.executions import pausing
from sinas.resources.executions.cancelling import cancel_trees
from sinas.resources.executions.events import channel, wait_for_end
from sinas.resources.executions.jobs import ORPHANED, STOPPED, SWEEPS
from sinas.resources.executions.pausing import plain_value
from sinas.resources.executions.tools import ExecutionTools
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult
from sinas.worker import RunningWorker, open_worker
from tests.factories.chats import make_agent, make_chat
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed
from tests.fixtures.database import QueryCounter
from tests.fixtures.state import in_own_task

ASK = """
def handler(input_data, context):
    return {"answer": input("How many?")}
"""
ASK_TWICE = """
def handler(input_data, context):
    first = input("First?")
    return [first, input(f"Second, after {first}?")]
"""


async def ask_function(
    context: AppContext, as_: SignIn, code: str = ASK, **columns: Any
) -> Function:
    owner = await as_.user("user")
    return await make_function(context, owner, code, name="f", shared_pool=True, **columns)


async def start(client: httpx.AsyncClient) -> dict[str, Any]:
    """Execute the function and wait until it ends or asks; the result."""
    answer = await client.post("/functions/default/f/execute", json={"input": {}})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == "success", body
    result: dict[str, Any] = body["result"]
    return result


async def go_on(client: httpx.AsyncClient, key: str, given: object) -> httpx.Response:
    return await client.post(f"/executions/{key}/continue", json={"input": given})


async def record(client: httpx.AsyncClient, key: str) -> dict[str, Any]:
    row: dict[str, Any] = (await client.get(f"/executions/{key}")).json()
    return row


async def idle(worker: RunningWorker) -> None:
    """Wait until no shared call runs in the worker."""
    sandbox = worker.context.sandbox
    assert sandbox is not None
    async with asyncio.timeout(10):
        while any(member.running for member in sandbox.status().shared):
            await asyncio.sleep(0.02)


class TestOverHttp:
    async def test_a_call_pauses_and_goes_on(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_)
        client = await as_("user")
        result = await start(client)
        key = result["execution_id"]
        assert result == {"status": "awaiting_input", "execution_id": key, "prompt": "How many?"}
        row = await record(client, key)
        assert (row["status"], row["prompt"], row["completed_at"]) == (
            "AWAITING_INPUT",
            "How many?",
            None,
        )
        answer = await go_on(client, key, {"value": "three"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "execution_id": key,
            "status": "COMPLETED",
            "output_data": {"answer": "three"},
            "prompt": None,
            "schema": None,
            "error": None,
        }
        row = await record(client, key)
        assert (row["status"], row["prompt"], row["output_data"]) == (
            "COMPLETED",
            None,
            {"answer": "three"},
        )

    async def test_it_may_ask_again(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_, ASK_TWICE)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        paused = (await go_on(client, key, {"value": "one"})).json()
        assert (paused["status"], paused["prompt"]) == ("AWAITING_INPUT", "Second, after one?")
        assert paused["output_data"] is None
        ended = (await go_on(client, key, {"n": 2})).json()
        assert (ended["status"], ended["output_data"]) == ("COMPLETED", ["one", "2"])

    async def test_code_that_fails_after_its_answer(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(
            context, as_, "def handler(i, c):\n    return 1 / int(input('By?'))", timeout=30
        )
        client = await as_("user")
        key = (await start(client))["execution_id"]
        answer = await go_on(client, key, {"value": 0})
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["error"]) == (
            "FAILED",
            "ZeroDivisionError: division by zero",
        )

    async def test_the_output_schema_holds_on_this_path_too(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_, output_schema={"type": "array"})
        client = await as_("user")
        key = (await start(client))["execution_id"]
        answer = (await go_on(client, key, {"value": "x"})).json()
        assert answer["status"] == "FAILED"
        assert answer["error"].startswith("Output validation failed")

    async def test_it_does_not_stop_the_clock_of_the_code_itself(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        code = "import time\ndef handler(i, c):\n    input('?')\n    time.sleep(60)"
        await ask_function(context, as_, code, timeout=1)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        await asyncio.sleep(1.5)  # longer than the timeout: the pause must not count
        await go_on(client, key, {"value": ""})
        async with context.signals.listen(channel(key)) as listener:
            end = await wait_for_end(context, listener, key, 10, look_first=True)
        assert end is not None
        assert end.timed_out, end

    async def test_the_code_goes_on_with_a_token_of_now(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        code = """
import time
def handler(i, c):
    first = c["access_token"]
    input("?")
    return [first, c["access_token"]]
"""
        await ask_function(context, as_, code)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        await asyncio.sleep(1.1)  # tokens tell whole seconds
        tokens = (await go_on(client, key, {"value": ""})).json()["output_data"]
        old, new = (context.signer.read(token) for token in tokens)
        assert tokens[0] != tokens[1]
        assert (new.user_id, new.execution_id, new.depth, new.limit) == (
            old.user_id,
            old.execution_id,
            old.depth,
            old.limit,
        )

    async def test_paused_calls_leave_room_for_others(
        self, context: AppContext, as_: SignIn
    ) -> None:
        narrow = changed(context.settings, queue={"shared_concurrency": 1})
        await ask_function(context, as_)
        client = await as_("user")
        worker = open_worker("functions", dataclasses.replace(context, settings=narrow))
        async with in_own_task(worker):
            keys = [(await start(client))["execution_id"] for _ in range(3)]
            answers = [(await go_on(client, key, {"value": key})).json() for key in keys]
        assert [one["output_data"]["answer"] for one in answers] == keys


class TestWhoMayAnswer:
    async def test_the_owner_and_who_may_update_all(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_)
        owner, other, admin = await as_("user"), await as_("other"), await as_("admin")
        reader = await as_.key(
            "admin", ["sinas.executions.read:all", "sinas.executions.update:own"]
        )
        blind = await as_.key("user", ["sinas.executions.read:own"])
        key = (await start(owner))["execution_id"]
        assert (await go_on(other, key, {"value": "no"})).status_code == 404
        assert (await go_on(reader, key, {"value": "no"})).status_code == 403
        assert (await go_on(blind, key, {"value": "no"})).status_code == 403
        assert (await record(owner, key))["status"] == "AWAITING_INPUT"
        answer = await go_on(admin, key, {"value": "yes"})
        assert answer.json()["output_data"] == {"answer": "yes"}

    async def test_of_two_answers_one_counts(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(go_on(client, key, {"value": value})) for value in ("a", "b")]
        answers = {task.result().status_code: task.result().json() for task in both}
        assert sorted(answers) == [200, 400]
        assert answers[200]["status"] == "COMPLETED"
        assert "not wait" in answers[400]["detail"] or "already" in answers[400]["detail"]
        assert (await record(client, key))["output_data"] == answers[200]["output_data"]

    async def test_what_does_not_wait_cannot_be_answered(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        function = await ask_function(context, as_)
        client = await as_("user")
        row = await make_execution(context, function, status=ExecutionStatus.COMPLETED)
        answer = await go_on(client, str(row.id), {"value": "late"})
        assert answer.status_code == 400
        assert answer.json()["detail"].endswith("does not wait for input; it is COMPLETED.")
        assert (await go_on(client, str(uuid4()), {"value": 1})).status_code == 404

    async def test_answers_that_cannot_be(self, context: AppContext, as_: SignIn) -> None:
        function = await ask_function(context, as_)
        row = await make_execution(context, function, status=ExecutionStatus.AWAITING_INPUT)
        client = await as_("user")
        assert (await go_on(client, str(row.id), "text")).status_code == 422
        assert (await go_on(client, str(row.id), {"value": "nul \0"})).status_code == 422
        path = f"/executions/{row.id}/continue"
        assert (await client.post(path, json={"input": {}, "more": 1})).status_code == 422


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"value": "text"}, "text"),
        ({"value": "text", "more": 1}, "text"),
        ({"answer": "yes"}, "yes"),
        ({"value": 5}, "5"),
        ({"value": True}, "true"),
        ({"value": None}, "null"),
        ({"value": {"a": [1]}}, '{"a":[1]}'),
        ({"a": 1, "b": "ü"}, '{"a":1,"b":"ü"}'),
        ({}, "{}"),
    ],
)
def test_the_code_gets_the_plain_value(given: JsonObject, value: str) -> None:
    assert plain_value(given) == value


def test_an_answer_that_cannot_be_stored_names_its_field() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plain_value({"value": float("nan")})
    assert caught.value.errors[0].field == "input"


class TestBadEnds:
    async def test_no_answer_in_time_is_a_timeout_in_the_code(
        self, context: AppContext, as_: SignIn
    ) -> None:
        code = """
def handler(i, c):
    try:
        input("?")
    except TimeoutError as error:
        return str(error)
"""
        await ask_function(context, as_, code)
        client = await as_("user")
        hasty = changed(context.settings, function={"input_timeout": 1})
        async with in_own_task(
            open_worker("functions", dataclasses.replace(context, settings=hasty))
        ):
            key = (await start(client))["execution_id"]
            async with context.signals.listen(channel(key)) as listener:
                # What is said of the pause does not count as an end.
                while (end := await wait_for_end(context, listener, key, 10)) is None or end.prompt:
                    await listener.get()
        assert end.result == "input() was not answered within 1 s (FUNCTION_INPUT_TIMEOUT)"
        row = await record(client, key)
        assert (row["status"], row["prompt"]) == ("COMPLETED", None)

    async def test_an_answer_whose_message_was_lost_is_found(
        self,
        context: AppContext,
        as_: SignIn,
        function_worker: RunningWorker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(pausing, "_LOOK_SECONDS", 0.05)
        await ask_function(context, as_)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        async with context.signals.listen(channel(key)) as listener:
            async with context.unit() as unit:
                await unit.session.execute(
                    update(Execution).where(Execution.id == key).values(answer="in the row")
                )
            end = await wait_for_end(context, listener, key, 10)
        assert end is not None
        assert end.result == {"answer": "in the row"}

    async def test_a_worker_that_stops_ends_what_it_paused(
        self, context: AppContext, as_: SignIn
    ) -> None:
        await ask_function(context, as_)
        client = await as_("user")
        quick = changed(context.settings, queue={"drain_seconds": 0.1})
        async with in_own_task(
            open_worker("functions", dataclasses.replace(context, settings=quick))
        ):
            key = (await start(client))["execution_id"]
        row = await record(client, key)
        assert (row["status"], row["error"], row["prompt"]) == ("FAILED", STOPPED, None)
        assert (await go_on(client, key, {"value": "late"})).status_code == 400

    async def test_a_worker_that_dies_ends_what_it_paused(
        self, context: AppContext, as_: SignIn
    ) -> None:
        function = await ask_function(context, as_)
        paused = await make_execution(
            context,
            function,
            status=ExecutionStatus.AWAITING_INPUT,
            prompt="?",
            lease_owner=uuid4(),
            attempt=3,
        )
        for sweep in SWEEPS:
            await sweep.run(context)
        row = await record(await as_("user"), str(paused.id))
        assert (row["status"], row["error"], row["prompt"]) == ("FAILED", ORPHANED, None)

    async def test_a_lost_sandbox_ends_what_it_paused(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        sandbox = function_worker.context.sandbox
        assert sandbox is not None
        async with context.signals.listen(channel(key)) as listener:
            (name,) = [one.name for one in sandbox.status().shared if one.running]
            assert sandbox.replace(name)
            end = await wait_for_end(context, listener, key, 10)
        assert end is not None
        assert "The sandbox was lost during the call" in (end.error or "")
        assert (await start(client))["prompt"] == "How many?"

    async def test_cancelling_kills_paused_code(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        async with context.unit() as unit:
            await cancel_trees(unit, Execution.id == key, "no longer wanted")
        await idle(function_worker)
        row = await record(client, key)
        assert (row["status"], row["error"], row["prompt"]) == (
            "CANCELLED",
            "no longer wanted",
            None,
        )
        assert (await go_on(client, key, {"value": "late"})).status_code == 400

    async def test_an_execution_that_ends_elsewhere_ends_its_code(
        self,
        context: AppContext,
        as_: SignIn,
        function_worker: RunningWorker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(pausing, "_LOOK_SECONDS", 0.05)
        await ask_function(context, as_)
        client = await as_("user")
        key = (await start(client))["execution_id"]
        async with context.unit() as unit:
            await unit.session.execute(
                update(Execution)
                .where(Execution.id == key)
                .values(status=ExecutionStatus.FAILED, error="reaped")
            )
        await idle(function_worker)
        assert (await record(client, key))["error"] == "reaped"


class TestTool:
    @pytest.fixture
    async def chat(self, context: AppContext, as_: SignIn) -> Any:
        user = await as_.user("user")
        return await make_chat(context, user, await make_agent(context, user))

    async def offered(self, context: AppContext, chat: Any, user_id: Any) -> list[Tool]:
        agent = await make_agent(context, await make_user(context))
        principal = await context.authenticator.by_user(user_id)
        turn = ToolContext(principal=principal, chat_id=chat.id, agent_input={}, has_paused=True)
        async with context.sessions() as session:
            return list(await ExecutionTools(context).offer(agent, turn, session))

    async def test_it_is_offered_where_an_execution_of_the_caller_waits(
        self, context: AppContext, as_: SignIn, chat: Any, query_counter: QueryCounter
    ) -> None:
        function = await ask_function(context, as_)
        user, other = await as_.user("user"), await as_.user("other")
        waiting: Any = {"status": ExecutionStatus.AWAITING_INPUT, "prompt": "Which colour?"}
        await make_execution(context, function, **waiting)
        await make_execution(context, function, user=other, chat_id=chat.id, **waiting)
        await make_execution(context, function, chat_id=chat.id)
        await make_execution(context, function, chat_id=chat.id, answer="given", **waiting)
        assert await self.offered(context, chat, user.id) == []
        rows = [
            await make_execution(context, function, chat_id=chat.id, **waiting) for _ in range(11)
        ]
        with query_counter() as queries:
            (tool,) = await self.offered(context, chat, user.id)
        assert sum("executions" in one for one in queries.statements) == 1
        assert (tool.name, tool.sequential, tool.resumable) == ("continue_execution", True, False)
        properties: Any = tool.parameters["properties"]
        assert properties["execution_id"]["enum"] == [str(row.id) for row in rows[:10]]
        assert properties["input"]["type"] == "object"
        assert f"{rows[0].id} (default/f) asks: Which colour?" in tool.description

    async def test_it_continues_the_execution(
        self, context: AppContext, as_: SignIn, chat: Any, function_worker: RunningWorker
    ) -> None:
        await ask_function(context, as_, ASK_TWICE)
        client, user = await as_("user"), await as_.user("user")
        key = (await start(client))["execution_id"]
        async with context.unit() as unit:
            await unit.session.execute(
                update(Execution).where(Execution.id == key).values(chat_id=chat.id)
            )
        (tool,) = await self.offered(context, chat, user.id)

        async def run(given: JsonObject) -> ToolResult:
            arguments: JsonObject = {"execution_id": key, "input": given}
            return await tool.run(Call(key="k", call_id="c", arguments=arguments))

        assert isinstance(await run({"value": "nul \0"}), Retry)
        assert await run({"value": "one"}) == Ok(
            {"status": "awaiting_input", "execution_id": key, "prompt": "Second, after one?"}
        )
        assert await run({"value": "two"}) == Ok(["one", "two"])
        late = await run({"value": "three"})
        assert isinstance(late, Failed)
        assert late.error == "Execution not waiting"
