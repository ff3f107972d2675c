"""Queries as tools: defaults, fixed parameters, and the caller's own rights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.models import QueryOperation
from sinas.resources.queries.tools import QueryTools
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext
from tests.factories.chats import make_agent
from tests.factories.databases import make_connection, make_query

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import DatabaseConnection
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

SQL = "SELECT :region::text AS region, :last::int AS last, :user_email AS email"
SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string"},
        "last": {"type": "integer"},
        "user_email": {"type": "string"},
    },
    "required": ["region", "last", "user_email"],
}
Offer = Callable[..., Awaitable[dict[str, Tool]]]


@pytest.fixture
async def connection(context: AppContext) -> DatabaseConnection:
    return await make_connection(context)


@pytest.fixture
def offer(context: AppContext, as_: SignIn, query_counter: QueryCounter) -> Offer:
    async def offered(
        *enabled: str, who: str = "admin", parameters: Any = None, **agent_input: Any
    ) -> dict[str, Tool]:
        user = await as_.user(who)
        agent = await make_agent(
            context, user, enabled_queries=list(enabled), query_parameters=parameters or {}
        )
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input=agent_input)
        async with context.statement_sessions() as session:
            with query_counter() as queries:
                tools = await QueryTools(context).offer(agent, turn, session)
            assert queries.count <= (2 if enabled else 0)
        return {tool.name: tool for tool in tools}

    return offered


def call(**arguments: Any) -> Call:
    return Call(key="k", call_id="c", arguments=arguments)


async def test_a_fixed_parameter_cannot_be_moved(
    context: AppContext, as_: SignIn, connection: DatabaseConnection, offer: Offer
) -> None:
    admin = await as_.user("admin")
    await make_query(context, admin, connection, SQL, name="q", input_schema=SCHEMA)
    parameters = {
        "default/q": {"region": {"value": "{{ where }}", "locked": True}, "last": {"value": 5}}
    }
    tools = await offer("default/q", parameters=parameters, where="north")
    tool = tools["query_default__q"]
    assert tool.parameters["properties"] == {"last": {"type": "integer", "default": 5}}
    assert tool.parameters["required"] == []
    moved = await tool.run(call(region="south", user_email="other@example.com"))
    assert isinstance(moved, Ok)
    assert isinstance(moved.value, dict)
    assert moved.value["data"] == [{"region": "north", "last": 5, "email": admin.email}]


async def test_a_fixed_parameter_that_cannot_be_made_fails_the_call(
    context: AppContext, as_: SignIn, connection: DatabaseConnection, offer: Offer
) -> None:
    await make_query(context, await as_.user("admin"), connection, SQL, name="q")
    parameters = {"default/q": {"region": {"value": "{{ nowhere }}", "locked": True}}}
    tools = await offer("default/q", parameters=parameters)
    result = await tools["query_default__q"].run(call(region="south"))
    assert isinstance(result, Failed)


async def test_without_a_schema_the_text_names_the_parameters(
    context: AppContext, as_: SignIn, connection: DatabaseConnection, offer: Offer
) -> None:
    await make_query(context, await as_.user("admin"), connection, SQL, name="q")
    tool = (await offer("*/*"))["query_default__q"]
    assert tool.parameters == {"type": "object", "properties": {"region": {}, "last": {}}}
    assert isinstance(await tool.run(call(last="many")), Retry)


async def test_only_reads_are_run_again_after_a_crash(
    context: AppContext, as_: SignIn, connection: DatabaseConnection, offer: Offer
) -> None:
    admin = await as_.user("admin")
    await make_query(context, admin, connection, "SELECT 1", name="r")
    await make_query(
        context, admin, connection, "DELETE FROM users", name="w", operation=QueryOperation.WRITE
    )
    tools = await offer("default/*")
    assert {name: tool.resumable for name, tool in tools.items()} == {
        "query_default__r": True,
        "query_default__w": False,
    }


async def test_nothing_for_callers_without_the_right(
    context: AppContext, as_: SignIn, connection: DatabaseConnection, offer: Offer
) -> None:
    query = await make_query(context, await as_.user("user"), connection, "SELECT 1", name="q")
    assert await offer("default/q", who="user") == {}
    assert await offer() == {}
    tool = (await offer("default/q"))["query_default__q"]
    async with context.unit() as unit:
        row = await unit.session.get(type(query), query.id)
        assert row is not None
        row.is_active = False
    assert isinstance(await tool.run(call()), Failed)
