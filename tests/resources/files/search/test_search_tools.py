"""`search_collection_…` as an agent calls it."""

from typing import Any
from uuid import uuid4

import pytest

from sinas.context import AppContext
from sinas.resources.files.search_tools import SearchCollection
from sinas.resources.files.tools import FileTools
from sinas.tools.base import Call, Failed, Ok, Retry, ToolContext, ToolResult
from tests.factories.chats import make_agent
from tests.fixtures.client import SignIn
from tests.resources.files.search.world import SearchWorld

MANUAL = "# Manual\n\nTurn the key.\n\n## Braking\n\nTo stop the vehicle, press the left pedal.\n"


class Caller:
    def __init__(self, context: AppContext, world: SearchWorld, as_: SignIn) -> None:
        self._context, self._world, self._as = context, world, as_

    async def result(self, who: str = "user", **arguments: Any) -> ToolResult:
        user = await self._as.user(who)
        principal = await self._context.authenticator.by_user(user.id)
        entries = [{"collection": "docs/handbook", "access": "readonly"}]
        agent = await make_agent(self._context, user, enabled_collections=entries)
        call = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
        async with self._context.unit() as unit:
            tools = await FileTools(self._context).offer(agent, call, unit.session)
        (tool,) = (one for one in tools if one.name == "search_collection_docs_handbook")
        return await tool.run(Call(key="k", call_id="c", arguments=arguments))

    async def __call__(self, who: str = "user", **arguments: Any) -> list[dict[str, Any]]:
        result = await self.result(who, **arguments)
        assert isinstance(result, Ok), result
        value: Any = result.value
        assert value["count"] == len(value["files"])
        files: list[dict[str, Any]] = value["files"]
        return files

    async def names(self, **arguments: Any) -> list[str]:
        return [file["filename"] for file in await self(**arguments)]


@pytest.fixture
async def call(context: AppContext, world: SearchWorld, as_: SignIn) -> Caller:
    user = await as_.user("user")
    await world.upload(user, "car-manual.md", MANUAL, metadata={"brand": "Volta", "year": 2020})
    await world.upload(user, "b.txt", "nothing of note\nVolta was a physicist")
    await world.upload(await as_.user("other"), "car-x.txt", "brake", visibility="private")
    return Caller(context, world, as_)


@pytest.mark.parametrize("query", ["Caf\u00e9", "Cafe\u0301"], ids=["one", "two"])
async def test_an_accent_is_one_however_it_is_written(
    call: Caller, world: SearchWorld, as_: SignIn, query: str
) -> None:
    user = await as_.user("user")
    await world.upload(user, "Cafe\u0301.txt", "nothing")
    await world.upload(user, "text.txt", "a cafe\u0301")
    await world.upload(user, "meta.txt", "nothing", metadata={"place": "Caf\u00e9"})
    if query != "Caf\u00e9":
        await world.upload(user, "two.txt", "nothing", metadata={"place": query})
    found = ["Caf\u00e9.txt", "meta.txt", "text.txt", *(["two.txt"] if len(query) == 5 else [])]
    assert sorted(await call.names(query=query)) == found


async def test_without_a_query_it_lists(call: Caller) -> None:
    b, manual = await call()
    assert manual == {
        "filename": "car-manual.md",
        "content_type": "text/plain",
        "version": 1,
        "metadata": {"brand": "Volta", "year": 2020},
        "visibility": "shared",
    }
    assert b["filename"] == "b.txt"
    assert await call.names(limit=1) == ["b.txt"]
    assert await call.names(metadata_filter={"year": 2020}) == ["car-manual.md"]


async def test_words_of_names_and_metadata_come_before_the_text(call: Caller) -> None:
    manual, b = await call(query="volta")
    assert (manual["filename"], "matches" in manual) == ("car-manual.md", False)
    assert b["matches"] == [{"line": 2, "text": "Volta was a physicist"}]
    assert await call.names(query="CAR manual") == ["car-manual.md"]
    assert await call.names(query="brand") == []  # a key is no value
    assert await call.names(query="2020") == ["car-manual.md"]
    assert await call.names(query="%") == []


async def test_a_regular_expression_or_what_it_says(call: Caller) -> None:
    (manual,) = await call(query=r"^turn\s+the")
    assert manual["matches"] == [{"line": 3, "text": "Turn the key."}]
    assert await call.names(query="key.(") == []


async def test_meaning_says_where_to_read_on(call: Caller) -> None:
    (manual,) = await call(query="How do I brake?", mode="semantic", limit=1)
    (match,) = manual["matches"]
    assert (manual["filename"], match["line"], match["end_line"]) == ("car-manual.md", 1, 7)
    assert "press the left pedal" in match["text"]


async def test_private_files_are_their_owners_also_for_admins(call: Caller, as_: SignIn) -> None:
    for query in ("brake", "car", None):
        assert "car-x.txt" not in await call.names(query=query)
        assert "car-x.txt" not in [f["filename"] for f in await call("admin", query=query)]
        assert "car-x.txt" in [f["filename"] for f in await call("other", query=query)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": "a", "mode": "magic"},
        {"query": "a\0"},
        {"query": "("} | {"mode": "regex"},
        {"limit": 0},
        {"limit": 51},
        {"metadata_filter": {"a": "\0"}},
        {"metadata_filter": 5},
        {"query": "a" * 3000},
        {"other": 1},
    ],
)
async def test_a_wrong_call_is_told(call: Caller, arguments: dict[str, Any]) -> None:
    assert isinstance(await call.result(**arguments), Retry)


async def test_without_the_right(
    call: Caller, world: SearchWorld, context: AppContext, as_: SignIn
) -> None:
    """It is not offered, and a call of one whose right is gone since is refused."""
    principal = await context.authenticator.by_user((await as_.user("nobody")).id)
    agent = await make_agent(
        context, None, enabled_collections=[{"collection": "*/*", "access": "readwrite"}]
    )
    whose = ToolContext(principal=principal, chat_id=uuid4(), agent_input={})
    async with context.unit() as unit:
        assert await FileTools(context).offer(agent, whose, unit.session) == ()
    search = SearchCollection(
        context=context,
        caller=principal,
        collection_id=world.collection_id,
        namespace="docs",
        name="handbook",
    )
    assert isinstance(await search(Call(key="k", call_id="c", arguments={"query": "a"})), Failed)
