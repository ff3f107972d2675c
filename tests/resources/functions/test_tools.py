"""Functions as tools of agents: what is offered, and one execution per call."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from sinas.context import AppContext
from sinas.kit.json_types import JsonObject
from sinas.models import Execution, ExecutionStatus, TriggerType, User
from sinas.resources.functions.tools import FunctionTools, tool_name
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult
from sinas.tools.parameters import configured
from sinas.worker import RunningWorker
from tests.factories.chats import make_agent, make_chat
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.fixtures.database import QueryCounter

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "region": {"type": "string"},
        "limit": {"type": "integer"},
        "query": {"type": "string"},
    },
    "required": ["region", "limit", "query"],
}


async def _awaited(result: Awaitable[ToolResult]) -> ToolResult:
    return await result


Offer = Callable[..., Awaitable[dict[str, Tool]]]


@pytest.fixture
async def user(context: AppContext) -> User:
    return await make_user(context)


@pytest.fixture
def offer(context: AppContext, user: User) -> Offer:
    async def offered(
        *enabled: str,
        parameters: dict[str, Any] | None = None,
        agent_input: dict[str, Any] | None = None,
        caller: User | None = None,
    ) -> dict[str, Tool]:
        agent = await make_agent(
            context, user, enabled_functions=list(enabled), function_parameters=parameters or {}
        )
        chat = await make_chat(context, caller or user, agent)
        principal = await context.authenticator.by_user((caller or user).id)
        turn = ToolContext(principal=principal, chat_id=chat.id, agent_input=agent_input or {})
        async with context.sessions() as session:
            tools = await FunctionTools(context).offer(agent, turn, session)
        return {tool.name: tool for tool in tools}

    return offered


def call(key: str = "k1", **arguments: Any) -> Call:
    return Call(key=key, call_id=f"call_{key}", arguments=arguments)


async def executions(context: AppContext) -> list[Execution]:
    async with context.unit() as unit:
        return list((await unit.session.scalars(select(Execution))).all())


async def test_enabled_active_functions_are_offered_by_one_query(
    context: AppContext, user: User, offer: Offer, query_counter: QueryCounter
) -> None:
    await make_function(context, user, namespace="a", name="one", description="First")
    await make_function(context, user, namespace="a", name="two", requires_approval=True)
    await make_function(context, user, namespace="a", name="off", is_active=False)
    await make_function(context, user, namespace="b", name="three")
    await make_function(context, user, namespace="c", name="four")
    tools = await offer("a/*", "b/three", "no/such")
    assert list(tools) == ["a__one", "a__two", "b__three"]
    one, two = tools["a__one"], tools["a__two"]
    assert (one.description, one.status, one.status_key) == (
        "First",
        "Running one",
        "function:a/one",
    )
    assert (one.resource, one.resumable, one.requires_approval) == (("a", "one"), True, False)
    assert two.requires_approval
    assert len(await offer("*/*")) == 4
    assert await offer() == {}
    agent = await make_agent(context, user, enabled_functions=["a/*", "b/three"])
    principal = await context.authenticator.by_user(user.id)
    turn = ToolContext(principal=principal, chat_id=UUID(int=1), agent_input={})
    async with context.sessions() as session:
        with query_counter() as queries:
            await FunctionTools(context).offer(agent, turn, session)
    assert queries.count == 1


def test_names_are_valid_unique_and_stable() -> None:
    assert tool_name("default", "f_1") == "default__f_1"
    long = tool_name("n" * 40, "f" * 40)
    assert len(long) == 64
    assert long == tool_name("n" * 40, "f" * 40) != tool_name("n" * 40, "f" * 41)
    assert tool_name("a", "b__c", taken={"a__b__c"}) != tool_name("a__b", "c")


def test_fixed_parameters_are_hidden_and_defaults_shown() -> None:
    original = deepcopy(SCHEMA)
    parameters = configured(
        {
            "region": {"value": "{{ country }}-1", "locked": True},
            "limit": 5,
            "query": {"value": "{{ missing }}", "locked": False},
        },
        {"country": "nl"},
    )
    shown = parameters.schema(SCHEMA)
    assert original == SCHEMA
    assert shown == {
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "default": 5},
            # Its template fails, so the model has to give it.
            "query": {"type": "string"},
        },
        "required": ["query"],
    }
    assert parameters.arguments({"query": "q", "region": "us-1"}) == {
        "region": "nl-1",
        "limit": 5,
        "query": "q",
    }
    assert parameters.arguments({"query": "q", "limit": 7})["limit"] == 7


def test_a_value_that_looks_like_a_form_but_has_other_keys_is_a_value() -> None:
    entry: JsonObject = {"value": 1, "unit": "m"}
    assert configured({"size": entry}, {}).defaults == {"size": entry}
    assert configured(None, {}).arguments({"a": 1}) == {"a": 1}


async def test_a_call_runs_once_and_is_linked_to_its_chat(
    context: AppContext, user: User, offer: Offer, function_worker: RunningWorker
) -> None:
    await make_function(context, user, name="echo", input_schema=SCHEMA)
    tools = await offer(
        "default/echo", parameters={"default/echo": {"region": {"value": "eu", "locked": True}}}
    )
    wanted = call(query="q", limit="3", region="evil")
    result = Ok({"query": "q", "limit": 3, "region": "eu"})
    assert await tools["default__echo"].run(wanted) == result
    # The same call again, as after a crash: found, not repeated.
    assert await tools["default__echo"].run(wanted) == result
    [row] = await executions(context)
    assert (row.trigger_type, row.tool_call_id) == (TriggerType.AGENT, "call_k1")
    assert row.trigger_id == str(row.chat_id)
    assert row.idempotency_key == "k1"


async def test_a_repeated_call_waits_for_the_one_that_runs(
    context: AppContext, user: User, offer: Offer, function_worker: RunningWorker
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(0.5)\n    return c['execution_id']"
    await make_function(context, user, code, name="slow")
    run = (await offer("default/slow"))["default__slow"].run
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(run(call()))) for _ in range(4)]
    results = {task.result() for task in tasks}
    [row] = await executions(context)
    assert results == {Ok(str(row.id))}


@pytest.mark.parametrize(
    ("code", "columns", "error"),
    [
        ("def handler(i, c):\n    raise ValueError('no')", {}, "Function execution failed"),
        (
            "import time\ndef handler(i, c):\n    time.sleep(9)",
            {"timeout": 1},
            "Function execution timed out",
        ),
    ],
)
async def test_failures_are_results(
    context: AppContext,
    user: User,
    offer: Offer,
    function_worker: RunningWorker,
    code: str,
    columns: dict[str, Any],
    error: str,
) -> None:
    await make_function(context, user, code, name="f", **columns)
    result = await (await offer("default/f"))["default__f"].run(call())
    assert isinstance(result, Failed)
    [row] = await executions(context)
    assert (result.error, result.message) == (error, row.error)


async def test_input_the_model_got_wrong_can_be_corrected(
    context: AppContext, user: User, offer: Offer
) -> None:
    await make_function(context, user, name="f", input_schema=SCHEMA)
    result = await (await offer("default/f"))["default__f"].run(call(query="q", limit="x"))
    assert isinstance(result, Retry)
    assert "Schema validation failed" in result.message
    [row] = await executions(context)
    assert row.status is ExecutionStatus.FAILED


async def test_a_fixed_value_that_cannot_be_made_fails_the_call(
    context: AppContext, user: User, offer: Offer
) -> None:
    await make_function(context, user, name="f", input_schema=SCHEMA)
    parameters = {"default/f": {"region": {"value": "{{ missing }}", "locked": True}}}
    tool = (await offer("default/f", parameters=parameters))["default__f"]
    assert "region" not in str(tool.parameters)
    result = await tool.run(call(query="q", limit=1))
    assert isinstance(result, Failed)
    assert "'region'" in result.message
    assert await executions(context) == []


async def test_own_grants_count_for_own_functions_only(
    context: AppContext, user: User, offer: Offer, function_worker: RunningWorker
) -> None:
    await make_function(context, user, name="f")
    other = await make_user(context)
    result = await (await offer("default/f", caller=other))["default__f"].run(call("a"))
    assert isinstance(result, Failed)
    assert result.error == "Permission denied"
    rights = ["sinas.functions/default/*.execute:all"]
    trusted = await make_user(context, roles=(), permissions=rights)
    result = await (await offer("default/f", caller=trusted))["default__f"].run(call("b", x=1))
    assert result == Ok({"x": 1})


async def test_a_function_that_is_gone_by_then_fails_the_call(
    context: AppContext, user: User, offer: Offer
) -> None:
    function = await make_function(context, user, name="f")
    tool = (await offer("default/f"))["default__f"]
    async with context.unit() as unit:
        await unit.session.delete(await unit.session.get_one(type(function), function.id))
    result = await tool.run(call())
    assert isinstance(result, Failed)
    assert result.error == "Function not found"
    async with context.unit() as unit:
        assert await unit.session.scalar(select(func.count(Execution.id))) == 0


async def test_an_interrupted_call_is_found_after_it_ended(
    context: AppContext, user: User, offer: Offer
) -> None:
    function = await make_function(context, user, name="f")
    await make_execution(
        context,
        function,
        status=ExecutionStatus.COMPLETED,
        output_data="first",
        idempotency_key="k1",
    )
    assert await (await offer("default/f"))["default__f"].run(call()) == Ok("first")
