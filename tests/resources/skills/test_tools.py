"""Skills of agents: tools by exact name, texts that are always there, and who may use which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sinas.resources.skills.preloaded import PreloadedSkills
from sinas.resources.skills.tools import SkillTools
from sinas.tools.base import Call as ToolCall
from sinas.tools.base import Failed, Ok, Tool, ToolContext
from sinas.tools.names import fitting
from tests.chat.support import Talks, text_of
from tests.factories.chats import make_agent
from tests.factories.identity import make_user
from tests.factories.memory import make_skill
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter, Statements

NOTHING = ToolCall(key="k", call_id="c", arguments={})


class Offered:
    """What an agent gets for a caller."""

    def __init__(self, tools: dict[str, Tool], section: str | None, queries: Statements) -> None:
        self.tools = tools
        self.section = section
        self.queries = queries


Offer = Callable[..., Awaitable[Offered]]


@pytest.fixture
def offer(context: AppContext, as_: SignIn, query_counter: QueryCounter) -> Offer:
    async def offered(*enabled: Any, owner: User | None = None, who: str = "user") -> Offered:
        user = await as_.user(who)
        entries = [e if isinstance(e, dict) else {"skill": e, "preload": False} for e in enabled]
        agent = await make_agent(context, owner or user, enabled_skills=entries)
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
        async with context.statement_sessions() as session:
            with query_counter() as queries:
                tools = await SkillTools(context).offer(agent, turn, session)
                section = await PreloadedSkills(context).instructions(agent, turn, session)
        return Offered({tool.name: tool for tool in tools}, section, queries)

    return offered


def preloaded(reference: str) -> dict[str, Any]:
    return {"skill": reference, "preload": True}


async def test_names_are_exact_whatever_is_in_them(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    owner = await as_.user("user")
    names = [("a", "b_c"), ("a_b", "c"), ("a-b", "c"), ("A", "x-y_z"), ("n" * 60, "s" * 60)]
    for namespace, name in names:
        await make_skill(context, owner, f"{namespace}/{name}", namespace=namespace, name=name)
    found = await offer(*(f"{namespace}/{name}" for namespace, name in names))
    assert len(found.tools) == len(names)
    assert {"get_skill_a_b_c", "get_skill_A_x_y_z"} < found.tools.keys()
    assert all(len(name) <= 64 for name in found.tools)
    for tool in found.tools.values():
        assert await tool.run(NOTHING) == Ok("/".join(tool.resource))
    again = await offer(*(f"{namespace}/{name}" for namespace, name in reversed(names)))
    assert {n: t.resource for n, t in again.tools.items()} == {
        n: t.resource for n, t in found.tools.items()
    }


def test_long_names_are_told_apart() -> None:
    long = "get_skill_" + "x" * 100
    assert fitting(long, "a/b") != fitting(long, "a/c")
    assert fitting(long, "a/b") == fitting(long, "a/b")
    assert fitting("plain", "a/b") == "plain"
    assert fitting("plain", "a/b", taken={"plain"}) != "plain"


async def test_what_a_tool_says(context: AppContext, as_: SignIn, offer: Offer) -> None:
    owner = await as_.user("user")
    await make_skill(context, owner, namespace="a", name="return_policy", description="Returns")
    [tool] = (await offer("a/*")).tools.values()
    assert tool.description == "Returns"
    assert tool.parameters == {"type": "object", "properties": {}}
    assert (tool.status, tool.status_key) == (
        "Loading skill return policy",
        "skill:a/return_policy",
    )
    assert (tool.resource, tool.resumable) == (("a", "return_policy"), True)


async def test_only_active_ones_that_are_named(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    owner = await as_.user("user")
    for namespace, name, is_active in (
        ("a", "one", True),
        ("a", "off", False),
        ("b", "two", True),
        ("b", "three", True),
    ):
        await make_skill(context, owner, namespace=namespace, name=name, is_active=is_active)
    client = await as_("user")
    assert (await client.delete("/api/v1/skills/b/three")).status_code == 204
    found = await offer("a/*", "b/three", "no/such")
    assert list(found.tools) == ["get_skill_a_one"]
    assert list((await offer("*/*")).tools) == ["get_skill_a_one", "get_skill_b_two"]
    assert (await offer(preloaded("a/off"), preloaded("b/three"))).section is None


async def test_a_skill_that_is_gone_by_then_fails_the_call(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    await make_skill(context, await as_.user("user"), namespace="a", name="one")
    [tool] = (await offer("a/one")).tools.values()
    await (await as_("user")).put("/api/v1/skills/a/one", json={"content": "New"})
    assert await tool.run(NOTHING) == Ok("New")
    await (await as_("user")).delete("/api/v1/skills/a/one")
    result = await tool.run(NOTHING)
    assert isinstance(result, Failed)
    assert result.error == "Skill not found"


async def test_preloaded_texts(context: AppContext, as_: SignIn, offer: Offer) -> None:
    owner = await as_.user("user")
    for name in ("one", "two", "three"):
        await make_skill(context, owner, f"Text of {name}.", namespace="a", name=name)
    found = await offer(preloaded("a/two"), "a/three", preloaded("a/one"))
    assert list(found.tools) == ["get_skill_a_three"]
    assert found.section == (
        "# Preloaded Skills\n\n"
        "# Skill: a/two\n\nText of two.\n\n"
        "---\n\n"
        "# Skill: a/one\n\nText of one."
    )
    assert found.queries.count == 2


async def test_the_most_specific_entry_counts(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    owner = await as_.user("user")
    for namespace, name in (("a", "one"), ("a", "two"), ("b", "one")):
        await make_skill(context, owner, namespace=namespace, name=name)
    found = await offer("*/*", preloaded("a/*"), "a/one")
    assert list(found.tools) == ["get_skill_a_one", "get_skill_b_one"]
    assert found.section is not None
    assert found.section.count("# Skill:") == 1
    assert "a/two" in found.section
    both = await offer("a/one", preloaded("a/one"))
    assert not both.tools
    assert both.section is not None


async def test_agents_without_skills_cost_no_query(offer: Offer) -> None:
    found = await offer()
    assert (found.tools, found.section, found.queries.count) == ({}, None, 0)
    only_tools = await offer("a/one")
    assert only_tools.queries.count == 1


async def test_an_agents_owner_may_read_them_or_its_caller(
    context: AppContext, as_: SignIn, offer: Offer
) -> None:
    """A skill belongs to the agent as its prompt does; other people's stay theirs."""
    admin, author = await as_.user("admin"), await as_.user("author")
    await make_skill(context, admin, "Admin's", namespace="a", name="admins")
    await make_skill(context, author, "Author's", namespace="a", name="authors")
    await make_skill(context, await as_.user("user"), "Caller's", namespace="a", name="callers")
    every = ["get_skill_a_admins", "get_skill_a_authors", "get_skill_a_callers"]
    assert list((await offer("*/*", owner=admin)).tools) == every
    assert list((await offer("*/*", owner=author)).tools) == every[1:]
    assert list((await offer("*/*", owner=author, who="other")).tools) == every[1:2]
    section = (await offer(preloaded("*/*"), owner=author, who="other")).section
    assert section is not None
    assert "Author's" in section
    assert "Admin's" not in section
    assert "Caller's" not in section
    granted = await make_user(context, roles=(), permissions=["sinas.skills/a/*.read:all"])
    assert list((await offer("*/*", owner=granted, who="other")).tools) == every


async def test_a_turn_loads_one(
    context: AppContext, as_: SignIn, talks: Talks, agent_worker: RunningWorker
) -> None:
    user = await as_.user("user")
    await make_skill(context, user, "# Returns\n\nWithin 30 days.", namespace="my-shop", name="r_p")
    talk = await talks(
        [
            Answer(calls=(Call("get_skill_my_shop_r_p", "{}", id="c1"),)),
            Answer(chunks=("30 days",)),
        ],
        enabled_skills=[{"skill": "my-shop/r_p", "preload": False}],
    )
    seen = await talk.stream("How long?")
    assert text_of(seen) == "30 days"
    first, second = [request.body for request in talks.llm.requests]
    [offered] = [tool["function"]["name"] for tool in first["tools"] if "skill" in str(tool)]
    assert offered == "get_skill_my_shop_r_p"
    result = second["messages"][-1]
    assert (result["role"], "Within 30 days." in result["content"]) == ("tool", True)
    [start] = [event.data for event in seen if event.name == "tool_start"]
    assert start["description"] == "Loading skill r p"


async def test_preloaded_ones_are_in_the_system_message_of_every_round(
    context: AppContext, as_: SignIn, talks: Talks, agent_worker: RunningWorker
) -> None:
    user = await as_.user("user")
    await make_skill(context, user, "Always say please.", namespace="a", name="manners")
    await make_skill(context, user, "Unused.", namespace="a", name="other")
    talk = await talks(
        [
            Answer(calls=(Call("get_skill_a_other", "{}", id="c1"),)),
            Answer(chunks=("Please",)),
        ],
        system_prompt="You are polite.",
        enabled_skills=[
            {"skill": "a/manners", "preload": True},
            {"skill": "a/other", "preload": False},
        ],
    )
    await talk.stream("Hello")
    for request in talks.llm.requests:
        system = request.body["messages"][0]
        assert system["role"] == "system"
        expected = "# Preloaded Skills\n\n# Skill: a/manners\n\nAlways say please."
        assert system["content"].startswith("You are polite.")
        assert expected in system["content"]
