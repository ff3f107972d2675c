"""Connectors of agents: which operations are tools, and what the model cannot move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.resources.connectors.tools import ConnectorTools
from sinas.tools.base import Call as ToolCall
from sinas.tools.base import Failed, Ok, Retry, Tool, ToolContext, ToolResult
from tests.chat.support import Talks, text_of
from tests.factories.chats import make_agent
from tests.factories.secrets import make_secret
from tests.resources.connectors.conftest import PATH, Make, schema
from tests.support.llm_script import Answer, Call
from tests.support.outside import Outside, reply

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

TEXT = {"type": "string"}
Offer = Callable[..., Awaitable[dict[str, Tool]]]


@pytest.fixture
def offer(context: AppContext, as_: SignIn, query_counter: QueryCounter) -> Offer:
    async def offered(
        *enabled: Any,
        owner: User | None = None,
        who: str = "user",
        given: dict[str, Any] | None = None,
        queries: int = 1,
    ) -> dict[str, Tool]:
        user = await as_.user(who)
        entries = [
            {"operations": [], "parameters": {}, **e}
            if isinstance(e, dict)
            else {"connector": e, "operations": [], "parameters": {}}
            for e in enabled
        ]
        agent = await make_agent(context, owner or user, enabled_connectors=entries)
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input=given or {})
        async with context.statement_sessions() as session:
            with query_counter() as counted:
                tools = await ConnectorTools(context).offer(agent, turn, session)
        assert counted.count == queries
        return {tool.name: tool for tool in tools}

    return offered


async def run(tool: Tool, **arguments: Any) -> ToolResult:
    return await tool.run(ToolCall(key="k", call_id="c", arguments=arguments))


def operations(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "method": "GET", "path": f"/{name}", **more} for name in names]


async def test_operations_are_tools(make: Make, offer: Offer, service: Outside) -> None:
    parameters = {**schema(id=TEXT, q=TEXT), "required": ["id"]}
    one = {"description": "Finds", "path": "/x/{id}", "parameters": parameters}
    await make({**one, "request_body_mapping": "query"}, namespace="crm")
    [(name, tool)] = (await offer("crm/svc")).items()
    assert name == "connector__crm__svc__do"
    assert tool.description == "[crm/svc] Finds"
    assert tool.parameters == parameters
    assert (tool.resource, tool.resumable) == (("crm", "svc"), True)
    assert (tool.status, tool.status_key) == ("Calling do", "connector:crm/svc/do")
    result = await run(tool, id="7", q="a")
    assert isinstance(result, Ok)
    assert isinstance(result.value, dict)
    assert list(result.value) == ["status_code", "headers", "body", "elapsed_ms"]
    assert result.value["body"] == {"ok": True}
    assert service.received[0].target == "/x/7?q=a"


async def test_which_ones(make: Make, offer: Offer) -> None:
    await make(namespace="a", name="one", operations=operations("x", "y"))
    await make(namespace="a", name="two", operations=operations("x"))
    off = await make(namespace="b", name="off", operations=operations("x"))
    await off.client.put(off.path, json={"is_active": False})
    names = [n.removeprefix("connector__") for n in await offer("*/*")]
    assert names == ["a__one__x", "a__one__y", "a__two__x"]
    some = await offer("a/*", {"connector": "a/one", "operations": ["y"]})
    assert [n.removeprefix("connector__") for n in some] == ["a__one__y", "a__two__x"]
    assert await offer({"connector": "a/one", "operations": ["none"]}) == {}
    assert await offer("b/*") == {}
    assert await offer(queries=0) == {}


async def test_names_are_told_apart(make: Make, offer: Offer) -> None:
    await make(namespace="a", name="b__c", operations=operations("d"))
    await make(namespace="a__b", name="c", operations=operations("d"))
    await make(namespace="a", name="b", operations=operations("c__d", "x" * 100))
    tools = await offer("*/*")
    assert len(tools) == 4
    assert all(len(name) <= 64 for name in tools)
    assert len({(t.resource, t.description) for t in tools.values()}) == 4


async def test_fixed_parameters_cannot_be_moved(make: Make, offer: Offer, service: Outside) -> None:
    parameters = {**schema(tenant=TEXT, q=TEXT, limit={"type": "integer"}), "required": ["tenant"]}
    await make({"request_body_mapping": "query", "parameters": parameters})
    told = {
        "tenant": "t-{{ tenant }}",
        "q": {"value": "x", "locked": True},
        "limit": {"value": 5, "locked": False},
    }
    entry = {"connector": "default/svc", "parameters": {"do": told}}
    [tool] = (await offer(entry, given={"tenant": "7"})).values()
    assert tool.parameters == {
        "type": "object",
        "properties": {"limit": {"type": "integer", "default": 5}},
        "required": [],
    }
    await run(tool)
    await run(tool, tenant="other", q="other", limit=9)
    assert [seen.target for seen in service.received] == [
        "/do?limit=5&tenant=t-7&q=x",
        "/do?limit=9&tenant=t-7&q=x",
    ]


async def test_no_other_way_leads_to_a_fixed_parameter(
    make: Make, offer: Offer, service: Outside
) -> None:
    """By another argument that would be written to the same place."""
    bound = {
        "tenant": {"in": "query", "name": "tenant_id"},
        "more": {"in": "query"},
        "deep": {"in": "query", "name": "f", "style": "deepObject"},
        "held": {"in": "query", "name": "f[a]"},
    }
    parameters = schema(tenant=TEXT, more={}, deep={}, held=TEXT)
    await make({"parameters": {**parameters, "additionalProperties": True}, "bindings": bound})
    await make(
        {
            "method": "POST",
            "parameters": {**schema(tenant=TEXT), "additionalProperties": True},
            "bindings": {"tenant": {"in": "body", "name": "tenant_id"}},
        },
        name="body",
    )
    await make(
        {
            "method": "POST",
            "content_type": "application/x-www-form-urlencoded",
            "parameters": {**schema(tenant=TEXT), "additionalProperties": True},
            "bindings": {"tenant": {"in": "body", "name": "t[id]"}},
        },
        name="form",
    )
    fixed = {"do": {"tenant": "mine"}}
    both = {"do": {"tenant": "mine", "held": "mine"}}
    [form] = (await offer({"connector": "default/form", "parameters": fixed})).values()
    [query] = (await offer({"connector": "default/svc", "parameters": both})).values()
    [body] = (await offer({"connector": "default/body", "parameters": fixed})).values()
    await run(query, more={"tenant_id": "theirs", "x": 1}, deep={"a": "theirs", "b": 2})
    await run(body, tenant_id="theirs", x=1)
    await run(form, t={"id": "theirs", "x": 1})
    one, two, three = service.received
    assert one.target == "/do?x=1&f%5Bb%5D=2&tenant_id=mine&f%5Ba%5D=mine"
    assert two.json() == {"x": 1, "tenant_id": "mine"}
    assert three.body == b"t%5Bx%5D=1&t%5Bid%5D=mine"


async def test_a_fixed_value_that_cannot_be_made_fails_the_call(
    make: Make, offer: Offer, service: Outside
) -> None:
    await make({"parameters": schema(tenant=TEXT)})
    entry = {"connector": "default/svc", "parameters": {"do": {"tenant": "{{ missing }}"}}}
    [tool] = (await offer(entry)).values()
    assert "tenant" not in str(tool.parameters)
    result = await run(tool, tenant="theirs")
    assert isinstance(result, Failed)
    assert "'tenant' cannot be made" in result.message
    assert service.received == []


async def test_the_agents_owner_may_read_it_or_the_caller(
    make: Make, offer: Offer, as_: SignIn
) -> None:
    await make(namespace="a", name="authors", who="author")
    await make(namespace="a", name="callers", who="user")
    author = await as_.user("author")
    assert list(await offer("*/*", owner=author)) == [
        "connector__a__authors__do",
        "connector__a__callers__do",
    ]
    assert list(await offer("*/*", who="other")) == []
    assert list(await offer("*/*", owner=author, who="other")) == ["connector__a__authors__do"]


async def test_rights_and_rows_are_looked_at_again_when_it_runs(
    make: Make, offer: Offer, service: Outside, context: AppContext, as_: SignIn
) -> None:
    made = await make(who="author")
    [tool] = (await offer("*/*", owner=await as_.user("author"), who="other")).values()
    assert isinstance(await run(tool), Ok)
    await made.client.put(made.path, json={"is_active": False})
    assert await run(tool) == Failed("Operation not found", "default/svc has no 'do' any more.")
    await made.client.put(made.path, json={"is_active": True, "operations": operations("other")})
    assert isinstance(await run(tool), Failed)
    await made.client.put(made.path, json={"operations": operations("do")})
    assert isinstance(await run(tool), Ok)
    from sinas.models import User

    async with context.unit() as unit:
        author = await unit.session.get(User, (await as_.user("author")).id)
        assert author is not None
        author.is_active = False
    assert await run(tool) == Failed("Permission denied", "You may not use 'default/svc'.")
    assert len(service.received) == 2


async def test_failures_are_told_in_words(
    make: Make, offer: Offer, service: Outside, context: AppContext, as_: SignIn
) -> None:
    await make_secret(context, await as_.user("user"), "hunter2-value", name="KEY")
    parameters = {**schema(n={"type": "integer"}), "required": ["n"]}
    await make(
        {"parameters": parameters}, auth={"type": "bearer", "secret": "KEY"}, timeout_seconds=2
    )
    [tool] = (await offer("*/*")).values()
    wrong = await run(tool)
    assert isinstance(wrong, Retry)
    assert "'n' is a required property" in wrong.message
    service.answer = reply({"echo": "hunter2-value"}, 401)
    result = await run(tool, n=1)
    assert isinstance(result, Ok)
    assert "hunter2" not in str(result)
    service.answer = None
    assert await run(tool, n=1) == Failed(
        "Connector call failed", "'127.0.0.2' did not answer within 2 seconds."
    )


async def test_a_turn_calls_one(
    make: Make, service: Outside, talks: Talks, agent_worker: RunningWorker
) -> None:
    await make({"parameters": schema(q=TEXT), "request_body_mapping": "query"})
    talk = await talks(
        [
            Answer(calls=(Call("connector__default__svc__do", '{"q": "hi"}'),)),
            Answer(("It is ok.",)),
        ],
        enabled_connectors=[{"connector": "default/svc", "operations": [], "parameters": {}}],
    )
    assert text_of(await talk.stream()) == "It is ok."
    assert service.received[0].target == "/do?q=hi"
    messages = (await talk.client.get(f"/chats/{talk.chat_id}")).json()["messages"]
    [told] = [m for m in messages if m["role"] == "tool"]
    assert '"ok"' in told["content"]
    assert PATH not in told["content"]
