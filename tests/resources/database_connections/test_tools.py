"""Database introspection: only listed connections, for callers who may, with annotations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.resources.database_connections.tools import IntrospectionTools
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext
from tests.factories.chats import make_agent
from tests.factories.databases import make_annotation, make_connection

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

Offer = Callable[..., Awaitable[dict[str, Tool]]]


@pytest.fixture
def offer(context: AppContext, as_: SignIn) -> Offer:
    async def offered(*system_tools: Any, who: str = "admin") -> dict[str, Tool]:
        user = await as_.user(who)
        agent = await make_agent(context, user, system_tools=list(system_tools))
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
        async with context.statement_sessions() as session:
            tools = await IntrospectionTools(context).offer(agent, turn, session)
        return {tool.name: tool for tool in tools}

    return offered


def listing(*names: str) -> dict[str, Any]:
    return {"name": "databaseIntrospection", "connections": [*names]}


def call(**arguments: Any) -> Call:
    return Call(key="k", call_id="c", arguments=arguments)


async def test_what_is_listed_is_shown_with_its_annotations(
    context: AppContext, offer: Offer
) -> None:
    connection = await make_connection(context, name="listed")
    await make_connection(context, name="hidden")
    await make_annotation(context, connection, "users", description="Who signs in")
    await make_annotation(context, connection, "users", column_name="email", display_name="Mail")
    tools = await offer(listing("listed"))
    listed = await tools["sinas_db_list_tables"].run(call(connectionName="listed"))
    assert isinstance(listed, Ok)
    tables: Any = listed.value
    assert (tables["connectionName"], tables["count"]) == ("listed", len(tables["tables"]))
    [users] = [each for each in tables["tables"] if each["table"] == "users"]
    assert users.pop("approximate_rows") is not None
    assert users == {
        "schema": "public",
        "table": "users",
        "type": "BASE TABLE",
        "annotation": {"description": "Who signs in"},
    }
    described = await tools["sinas_db_describe_table"].run(
        call(connectionName="listed", table="users")
    )
    assert isinstance(described, Ok)
    table: Any = described.value
    assert table["annotation"] == {"description": "Who signs in"}
    columns = {each["name"]: each for each in table["columns"]}
    assert columns["email"] == {
        "name": "email",
        "type": "character varying",
        "udt": "varchar",
        "nullable": False,
        "primary_key": False,
        "annotation": {"display_name": "Mail"},
    }
    assert columns["created_at"]["default"] == "now()"
    indexes = {each["name"]: each for each in table["indexes"]}
    key = {"columns": ["id"], "unique": True, "primary": True}
    assert indexes["pk_users"] == {"name": "pk_users", **key}
    described = await tools["sinas_db_describe_table"].run(
        call(connectionName="listed", table="api_keys", schema="public")
    )
    assert isinstance(described, Ok)
    keys: Any = described.value
    [foreign] = [each for each in keys["foreign_keys"] if each["column"] == "user_id"]
    assert foreign["references"] == "public.users.id"
    for tool in tools.values():
        assert "hidden" not in str(tool.schema())
        assert isinstance(await tool.run(call(connectionName="hidden", table="users")), Retry)


async def test_nothing_without_a_list_or_the_right(context: AppContext, offer: Offer) -> None:
    await make_connection(context, name="listed")
    assert await offer("databaseIntrospection") == {}
    assert await offer({"name": "databaseIntrospection", "connections": []}) == {}
    assert await offer("codeExecution") == {}
    assert await offer(listing("listed"), who="user") == {}


async def test_what_is_not_there(context: AppContext, offer: Offer) -> None:
    await make_connection(context, name="listed")
    tools = await offer(listing("listed", "gone"))
    describe = tools["sinas_db_describe_table"]
    assert isinstance(await describe.run(call(connectionName="gone", table="users")), Failed)
    evil = call(connectionName="listed", table="x'; DROP TABLE users; --")
    assert isinstance(await describe.run(evil), Failed)
