"""Store tools: over enabled stores alone, with the caller's rights, and real turns with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import select

from sinas.kit.time import utcnow
from sinas.models import State, StateVisibility, Store
from sinas.resources.stores.tools import StoreTools
from sinas.tools.base import Call as ToolCall
from sinas.tools.base import Failed, Ok, Retry, Tool, ToolContext
from tests.chat.support import Talks, text_of
from tests.factories.chats import make_agent
from tests.factories.identity import make_user
from tests.factories.memory import make_state, make_store
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

READS = ["list_state_keys", "retrieve_state"]
WRITES = ["save_state", "delete_state"]
SHARED = StateVisibility.SHARED

Offer = Callable[..., Awaitable[dict[str, Tool]]]


@pytest.fixture
def offer(context: AppContext, as_: SignIn) -> Offer:
    async def offered(*enabled: tuple[str, str], caller: User | None = None) -> dict[str, Tool]:
        user = caller or await as_.user("user")
        entries = [{"store": reference, "access": access} for reference, access in enabled]
        agent = await make_agent(context, user, enabled_stores=entries)
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
        async with context.statement_sessions() as session:
            tools = await StoreTools(context).offer(agent, turn, session)
        return {tool.name: tool for tool in tools}

    return offered


async def run(tool: Tool, **arguments: Any) -> Any:
    """The value of a call."""
    result = await tool.run(ToolCall(key="k", call_id="c", arguments=arguments))
    assert isinstance(result, Ok), result
    return result.value


async def refused(tool: Tool, **arguments: Any) -> str:
    """What a call was told to do better."""
    result = await tool.run(ToolCall(key="k", call_id="c", arguments=arguments))
    assert isinstance(result, Retry), result
    return result.message


@pytest.fixture
async def stores(context: AppContext, as_: SignIn) -> list[Store]:
    """`app/notes`, `app/facts` and `crm/people` of an administrator."""
    admin = await as_.user("admin")
    return [
        await make_store(context, admin, namespace=namespace, name=name, **columns)
        for namespace, name, columns in (
            ("app", "notes", {"description": "What was said"}),
            ("app", "facts", {"schema": {"properties": {"age": {"type": "integer"}}}}),
            ("crm", "people", {}),
        )
    ]


@pytest.fixture
async def notes(stores: list[Store]) -> Store:
    return stores[0]


@pytest.mark.usefixtures("stores")
async def test_what_is_offered(context: AppContext, as_: SignIn, offer: Offer) -> None:
    assert await offer() == {}
    assert await offer(("no/such", "readwrite")) == {}
    assert list(await offer(("app/notes", "readonly"))) == READS
    both = await offer(("app/notes", "readonly"), ("app/facts", "readwrite"))
    assert list(both) == READS + WRITES
    assert _enum(both["retrieve_state"]) == ["app/facts", "app/notes"]
    assert _enum(both["save_state"]) == _enum(both["delete_state"]) == ["app/facts"]
    assert _enum((await offer(("app/*", "readonly")))["list_state_keys"]) == [
        "app/facts",
        "app/notes",
    ]
    assert len(_enum((await offer(("*/*", "readwrite")))["save_state"])) == 3


def _enum(tool: Tool) -> Any:
    properties: Any = tool.parameters["properties"]
    return properties["store"]["enum"]


@pytest.mark.usefixtures("stores")
async def test_the_most_specific_entry_counts(offer: Offer) -> None:
    tools = await offer(("*/*", "readwrite"), ("app/*", "readonly"), ("app/facts", "readwrite"))
    assert _enum(tools["save_state"]) == ["app/facts", "crm/people"]
    # Two of a kind that differ: the lesser right.
    assert list(await offer(("app/notes", "readwrite"), ("app/notes", "readonly"))) == READS


@pytest.mark.usefixtures("stores")
async def test_the_caller_needs_the_right_too(context: AppContext, offer: Offer) -> None:
    rights = [
        "sinas.stores/app/*.read_state:own",
        "sinas.stores/app/notes.write_state:own",
        "sinas.stores/crm/*.write_state:own",
    ]
    caller = await make_user(context, roles=(), permissions=rights)
    tools = await offer(("*/*", "readwrite"), caller=caller)
    assert _enum(tools["retrieve_state"]) == ["app/facts", "app/notes"]
    assert _enum(tools["save_state"]) == ["app/notes"]
    nobody = await make_user(context, roles=())
    assert await offer(("*/*", "readwrite"), caller=nobody) == {}


@pytest.mark.usefixtures("stores")
async def test_what_a_model_is_told(context: AppContext, as_: SignIn, offer: Offer) -> None:
    admin = await as_.user("admin")
    schema: dict[str, Any] = {"properties": {"first": {}, "second": {}}}
    await make_store(context, admin, namespace="app", name="strict", schema=schema, strict=True)
    tools = await offer(("app/*", "readwrite"))
    for name in ("retrieve_state", "save_state"):
        lines = tools[name].description.split("\n")
        assert "- app/notes: What was said" in lines
        assert "- app/facts (known keys: age)" in lines
        assert "- app/strict (only these keys: first, second)" in lines
    assert tools["save_state"].parameters["required"] == ["store", "key", "value"]
    assert [(t.status_key, t.status) for t in tools.values()] == [
        ("state:list_state_keys", "List state"),
        ("state:retrieve_state", "Retrieve state"),
        ("state:save_state", "Save state"),
        ("state:delete_state", "Delete state"),
    ]
    assert all(tool.resumable for tool in tools.values())
    assert [tool.sequential for tool in tools.values()] == [False, False, True, True]


async def test_it_takes_one_query(
    context: AppContext, as_: SignIn, stores: list[Store], query_counter: QueryCounter
) -> None:
    user = await as_.user("user")
    principal = await context.authenticator.by_user(user.id)
    turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
    counts = []
    for enabled in ([], [{"store": "*/*", "access": "readwrite"}]):
        agent = await make_agent(context, user, enabled_stores=enabled)
        async with context.statement_sessions() as session:
            with query_counter() as queries:
                await StoreTools(context).offer(agent, turn, session)
        counts.append(queries.count)
    assert counts == [0, 1]


async def test_saving_and_saving_over(
    context: AppContext, as_: SignIn, notes: Store, offer: Offer
) -> None:
    tool = (await offer(("app/notes", "readwrite")))["save_state"]
    first = await run(tool, store="app/notes", key="k", value={"v": 1}, description="D", tags=["a"])
    assert first == {
        "success": True,
        "message": "State 'k' saved in store 'app/notes'.",
        "state_id": first["state_id"],
        "value": {"v": 1},
    }
    for value in ({"v": 2}, None, "text"):
        again = await run(tool, store="app/notes", key="k", value=value)
        assert (again["state_id"], again["value"]) == (first["state_id"], value)
    client = await as_("user")
    state = (await client.get("/stores/app/notes/states/k")).json()
    assert (state["value"], state["description"], state["tags"]) == ("text", "D", ["a"])
    await run(tool, store="app/notes", key="k", value=1, tags=[], visibility="shared")
    state = (await client.get("/stores/app/notes/states/k")).json()
    assert (state["tags"], state["visibility"], state["description"]) == ([], "shared", "D")


async def test_saving_keeps_the_rules_of_the_store(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    await make_store(
        context,
        await as_.user("admin"),
        namespace="app",
        name="strict",
        schema={"properties": {"age": {"type": "integer"}}},
        strict=True,
        encrypted=True,
        default_visibility=SHARED,
    )
    tool = (await offer(("app/strict", "readwrite")))["save_state"]
    assert "'name'" in await refused(tool, store="app/strict", key="name", value=1)
    assert "integer" in await refused(tool, store="app/strict", key="age", value="old")
    assert (await run(tool, store="app/strict", key="age", value=7))["value"] == 7
    async with context.sessions() as session:
        state = (await session.scalars(select(State))).one()
    assert (state.encrypted, state.value, state.visibility) == (True, {}, SHARED)


async def test_an_expired_state_is_saved_anew(
    context: AppContext, as_: SignIn, notes: Store, offer: Offer
) -> None:
    user = await as_.user("user")
    past = utcnow() - timedelta(hours=1)
    old = await make_state(context, notes, user, "k", expires_at=past, tags=["old"])
    tool = (await offer(("app/notes", "readwrite")))["save_state"]
    saved = await run(tool, store="app/notes", key="k", value=2)
    assert saved["state_id"] != str(old.id)
    state = (await (await as_("user")).get("/stores/app/notes/states/k")).json()
    assert (state["tags"], state["expires_at"]) == ([], None)


@pytest.mark.usefixtures("stores")
async def test_only_stores_that_were_offered(offer: Offer) -> None:
    tools = await offer(("app/notes", "readonly"), ("app/facts", "readwrite"))
    for store in ("app/notes", "crm/people", "no/such"):
        value = await run(tools["save_state"], store=store, key="k", value=1)
        assert value.keys() == {"error", "allowed_stores"}
        assert value["allowed_stores"] == ["app/facts"]
        value = await run(tools["delete_state"], store=store, key="k")
        assert value["allowed_stores"] == ["app/facts"]
    for name in READS:
        value = await run(tools[name], store="crm/people")
        assert value["allowed_stores"] == ["app/facts", "app/notes"]


@pytest.mark.usefixtures("stores")
async def test_arguments_are_read_leniently_and_refused_in_words(offer: Offer) -> None:
    tools = await offer(("app/notes", "readwrite"))
    await run(tools["save_state"], store="app/notes", key="k", value=1, tags="a, b", extra=1)
    assert (await run(tools["retrieve_state"], tags="a"))["count"] == 1
    assert (await run(tools["retrieve_state"], tags=None, limit=10_000))["count"] == 1
    assert "store" in await refused(tools["save_state"], key="k", value=1)
    assert "value" in await refused(tools["save_state"], store="app/notes", key="k")
    assert "key" in await refused(tools["save_state"], store="app/notes", key="", value=1)
    message = await refused(
        tools["save_state"], store="app/notes", key="k", value=1, visibility="public"
    )
    assert "visibility" in message
    assert "limit" in await refused(tools["list_state_keys"], limit=0)
    assert "tags" in await refused(tools["retrieve_state"], tags=[7])


async def test_retrieving(
    context: AppContext, as_: SignIn, stores: list[Store], offer: Offer
) -> None:
    notes, facts, people = stores
    user, other = await as_.user("user"), await as_.user("other")
    low = await make_state(context, notes, user, "low", 1, relevance_score=0.1, tags=["a", "b"])
    await make_state(context, facts, user, "high", {"v": 2}, tags=["a"], description="Fact")
    await make_state(context, notes, user, "secret", "s", encrypted=True, relevance_score=0.5)
    await make_state(context, notes, other, "theirs", 3)
    await make_state(context, notes, other, "shown", 4, visibility=SHARED, relevance_score=0.2)
    await make_state(context, people, user, "elsewhere", 5)
    past = utcnow() - timedelta(hours=1)
    await make_state(context, notes, user, "expired", 6, expires_at=past)
    tool = (await offer(("app/*", "readonly")))["retrieve_state"]
    found = await run(tool)
    assert (found["success"], found["count"]) == (True, 4)
    assert [(s["store"], s["key"], s["value"]) for s in found["states"]] == [
        ("app/facts", "high", {"v": 2}),
        ("app/notes", "secret", "s"),
        ("app/notes", "shown", 4),
        ("app/notes", "low", 1),
    ]
    assert found["states"][-1] == {
        "store": "app/notes",
        "key": "low",
        "value": 1,
        "description": None,
        "tags": ["a", "b"],
        "visibility": "private",
        "created_at": low.created_at.isoformat(),
        "updated_at": low.updated_at.isoformat(),
    }

    async def keys(**arguments: Any) -> list[str]:
        return [state["key"] for state in (await run(tool, **arguments))["states"]]

    assert await keys(store="app/notes") == ["secret", "shown", "low"]
    assert await keys(tags=["a"]) == ["high", "low"]
    assert await keys(tags=["a", "b"]) == ["low"]
    assert await keys(search="FACT") == ["high"]
    assert await keys(key="shown") == ["shown"]
    assert await keys(limit=1) == ["high"]
    nothing = await run(tool, key="elsewhere")
    assert nothing == {"success": True, "message": nothing["message"], "states": []}


async def test_ones_own_comes_before_shared_ones(
    context: AppContext, as_: SignIn, notes: Store, offer: Offer
) -> None:
    for who, key in (("first", "both"), ("second", "both"), ("first", "theirs")):
        await make_state(context, notes, await as_.user(who), key, who, visibility=SHARED)
    await make_state(context, notes, await as_.user("second"), "theirs", "new", visibility=SHARED)
    await make_state(context, notes, await as_.user("user"), "both", "own")
    tools = await offer(("app/notes", "readonly"))
    states = (await run(tools["retrieve_state"]))["states"]
    assert {state["key"]: state["value"] for state in states} == {"both": "own", "theirs": "new"}
    listed = await run(tools["list_state_keys"], store="app/notes")
    assert [key["key"] for key in listed["keys"]] == ["both", "theirs"]


async def test_listing_keys(
    context: AppContext, as_: SignIn, stores: list[Store], offer: Offer
) -> None:
    notes, _, people = stores
    user = await as_.user("user")
    b = await make_state(context, notes, user, "b", tags=["x", "y"], description="Bee")
    a = await make_state(context, notes, user, "a", tags=["x"])
    await make_state(context, notes, await as_.user("other"), "c", visibility=SHARED)
    await make_state(context, notes, await as_.user("other"), "hidden", tags=["z"])
    await make_state(context, people, user, "elsewhere")
    tool = (await offer(("app/*", "readonly")))["list_state_keys"]
    assert await run(tool) == {
        "stores": [
            {"store": "app/facts", "key_count": 0, "tags": {}},
            {"store": "app/notes", "key_count": 3, "tags": {"x": 2, "y": 1}},
        ],
        "total_keys": 3,
    }
    listed = await run(tool, store="app/notes")
    assert (listed["store"], listed["count"]) == ("app/notes", 3)
    assert listed["keys"][:2] == [
        {"key": "a", "tags": ["x"], "updated_at": a.updated_at.isoformat()},
        {
            "key": "b",
            "description": "Bee",
            "tags": ["x", "y"],
            "updated_at": b.updated_at.isoformat(),
        },
    ]
    assert (await run(tool, store="app/notes", limit=1))["count"] == 1
    assert (await run(tool, store="app/notes", tags=["y"]))["count"] == 1
    assert (await run(tool, tags=["y"]))["total_keys"] == 1
    assert (await run(tool, search="bee"))["total_keys"] == 1
    assert (await run(tool, store="app/facts")) == {"store": "app/facts", "keys": [], "count": 0}


async def test_deleting(context: AppContext, as_: SignIn, notes: Store, offer: Offer) -> None:
    await make_state(context, notes, await as_.user("other"), "k", visibility=SHARED)
    await make_state(context, notes, await as_.user("user"), "k")
    tool = (await offer(("app/notes", "readwrite")))["delete_state"]
    done = await run(tool, store="app/notes", key="k")
    assert done == {"success": True, "message": "State 'k' deleted from store 'app/notes'"}
    # The other user's stays, and there is nothing of this user's any more.
    assert (await run(tool, store="app/notes", key="k"))["success"] is False
    assert (await (await as_("user")).get("/stores/app/notes/states/k")).status_code == 200


async def test_a_store_that_is_gone_by_then(
    context: AppContext, as_: SignIn, notes: Store, offer: Offer
) -> None:
    tools = await offer(("app/notes", "readwrite"))
    await (await as_("admin")).delete("/api/v1/stores/app/notes")
    call = ToolCall(key="k", call_id="c", arguments={"store": "app/notes", "key": "k", "value": 1})
    result = await tools["save_state"].run(call)
    assert isinstance(result, Failed)
    assert result.error == "Store not found"
    assert (await run(tools["retrieve_state"]))["states"] == []


def calls(*given: tuple[str, dict[str, Any]]) -> Answer:
    return Answer(
        calls=tuple(
            Call(name, orjson.dumps(arguments).decode(), id=f"c{n}")
            for n, (name, arguments) in enumerate(given)
        )
    )


async def test_turns_remember_for_the_next_chat(
    as_: SignIn, notes: Store, talks: Talks, agent_worker: RunningWorker
) -> None:
    key = {"store": "app/notes", "key": "name"}
    talk = await talks(
        [
            calls(
                ("save_state", {**key, "value": "first"}),
                ("save_state", {**key, "value": "Ada"}),
            ),
            calls(("retrieve_state", key), ("retrieve_state", {"store": "crm/people"})),
            Answer(chunks=("Noted",)),
        ],
        enabled_stores=[{"store": "app/notes", "access": "readwrite"}],
    )
    seen = await talk.stream("I am Ada")
    assert text_of(seen) == "Noted"
    results = [orjson.loads(event.data["result"]) for event in seen if event.name == "tool_end"]
    # In one round, the last write wins.
    assert [result["value"] for result in results[:2]] == ["first", "Ada"]
    # These two ran side by side.
    [found] = [result["states"] for result in results[2:] if "states" in result]
    [told] = [result["allowed_stores"] for result in results[2:] if "error" in result]
    assert ([state["value"] for state in found], told) == (["Ada"], ["app/notes"])
    said = {event.data["description"] for event in seen if event.name == "tool_start"}
    assert said == {"Save state", "Retrieve state"}
    assert (await talk.client.get("/stores/app/notes/states/name")).json()["value"] == "Ada"


async def test_tools_that_were_not_offered_do_not_run(
    as_: SignIn, notes: Store, talks: Talks, agent_worker: RunningWorker
) -> None:
    talk = await talks(
        [
            calls(("save_state", {"store": "app/notes", "key": "k", "value": 1})),
            Answer(chunks=("No",)),
        ],
        enabled_stores=[{"store": "app/notes", "access": "readonly"}],
    )
    seen = await talk.stream("Save it")
    [result] = [orjson.loads(event.data["result"]) for event in seen if event.name == "tool_end"]
    assert result["error"] == "Unauthorized tool call"
    assert (await talk.client.get("/stores/app/notes/states")).json() == []
