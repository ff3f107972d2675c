"""Tools of agents: lines, exact edits, and no way round the rules of uploads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from sinas.resources.files.tools import FileTools
from sinas.tools.base import Call as ToolCall
from sinas.tools.base import Failed, Ok, Retry, Tool, ToolContext
from tests.factories.chats import make_agent, make_chat
from tests.factories.files import make_collection
from tests.factories.functions import make_function
from tests.factories.identity import make_user
from tests.resources.files.conftest import FILES, MakeCollection, content, uploaded

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import User
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

Offer = Callable[..., Awaitable[dict[str, Tool]]]
NAMES = ("get", "write", "edit", "delete")
SEARCH = "search_collection_docs_notes"


@pytest.fixture
def offer(context: AppContext, as_: SignIn, query_counter: QueryCounter) -> Offer:
    async def offered(
        *enabled: tuple[str, str], caller: User | None = None, chat_id: UUID | None = None
    ) -> dict[str, Tool]:
        user = caller or await as_.user("user")
        entries = [{"collection": reference, "access": access} for reference, access in enabled]
        agent = await make_agent(context, user, enabled_collections=entries)
        principal = await context.authenticator.by_user(user.id)
        turn = ToolContext(principal=principal, chat_id=chat_id or uuid4(), agent_input={})
        async with context.statement_sessions() as session:
            with query_counter() as queries:
                tools = await FileTools(context).offer(agent, turn, session)
        assert queries.count <= (1 if enabled else 0)
        return {tool.name.partition("_file_docs_notes")[0]: tool for tool in tools}

    return offered


async def run(tool: Tool, **arguments: Any) -> Any:
    result = await tool.run(ToolCall(key="k", call_id="c", arguments=arguments))
    assert isinstance(result, Ok), result
    return result.value


async def refused(tool: Tool, **arguments: Any) -> str:
    result = await tool.run(ToolCall(key="k", call_id="c", arguments=arguments))
    assert isinstance(result, Retry | Failed), result
    return result.message


async def test_what_is_offered(
    context: AppContext, as_: SignIn, collection: MakeCollection, offer: Offer
) -> None:
    await collection()
    await make_collection(context, await as_.user("admin"), namespace="docs-x", name="a b-c")
    assert await offer() == {}
    assert await offer(("no/such", "readwrite")) == {}
    assert list(await offer(("docs/notes", "readonly"))) == ["get", SEARCH]
    assert list(await offer(("docs/notes", "readwrite"))) == [*NAMES, SEARCH]
    # Of two entries that are alike, the lesser right; a closer one before a wide one.
    both = (("docs/notes", "readonly"), ("docs/notes", "readwrite"))
    assert list(await offer(*both)) == ["get", SEARCH]
    assert list(await offer(("docs/*", "readwrite"), ("docs/notes", "readonly"))) == [
        "get",
        SEARCH,
    ]
    limited = await make_user(
        context,
        roles=(),
        permissions=[f"sinas.collections/docs/notes.{a}:own" for a in ("download", "upload")],
    )
    assert list(await offer(("*/*", "readwrite"), caller=limited)) == [*NAMES[:3], SEARCH]
    assert await offer(("*/*", "readwrite"), caller=await make_user(context, roles=())) == {}


async def test_lines(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    await collection()
    user = await as_("user")
    text = "".join(f"line {n}\r\n" if n == 2 else f"line {n}\n" for n in range(1, 6)) + "last"
    await uploaded(user, content=text, file_metadata={"a": 1})
    tools = await offer(("docs/notes", "readonly"))
    assert await run(tools["get"], filename="a.txt") == {
        "filename": "a.txt",
        "content_type": "text/plain",
        "version": 1,
        "metadata": {"a": 1},
        "size_bytes": len(text),
        "content": "\n".join([*(f"     {n}\tline {n}" for n in range(1, 6)), "     6\tlast"]),
        "total_lines": 6,
    }
    some = await run(tools["get"], filename="a.txt", offset=2, limit=2)
    assert some["content"] == "     2\tline 2\n     3\tline 3"
    assert (some["line_range"], some["total_lines"]) == ("2-3", 6)
    beyond = await run(tools["get"], filename="a.txt", offset=99)
    assert (beyond["content"], beyond["line_range"], beyond["total_lines"]) == ("", "", 6)
    for wrong in ({"offset": 0}, {"limit": 0}, {"limit": -1}, {"offset": "x"}, {"surprise": 1}):
        assert await refused(tools["get"], filename="a.txt", **wrong)
    assert "not found" in await refused(tools["get"], filename="none")
    assert await refused(tools["get"])


async def test_large_texts_are_cut(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    await collection()
    user = await as_("user")
    tools = await offer(("docs/notes", "readonly"))
    await uploaded(user, "many", "x\n" * 5000)
    found = await run(tools["get"], filename="many")
    assert (found["line_range"], found["total_lines"]) == ("1-2000", 5000)
    await uploaded(user, "wide", "y" * 3_000_000 + "\nend")
    found = await run(tools["get"], filename="wide")
    assert found["total_lines"] == 2
    assert len(found["content"]) < 3000
    assert found["content"].endswith("[line cut]\n     2\tend")
    await uploaded(user, "both", ("z" * 1900 + "\n") * 100)
    found = await run(tools["get"], filename="both")
    assert len(found["content"]) <= 81_000
    assert found["line_range"] == f"1-{found['content'].count(chr(10)) + 1}"


async def test_what_is_no_text(
    context: AppContext, as_: SignIn, collection: MakeCollection, offer: Offer
) -> None:
    await collection()
    user = await as_("user")
    tools = await offer(("docs/notes", "readwrite"))
    for name, data in (("nul", b"a\x00b"), ("latin", "ü".encode("latin-1"))):
        await uploaded(user, name, data)
        found = await run(tools["get"], filename=name)
        assert "content" not in found
        url = found["url"]
        assert (await user.get(url[url.index("/files") :])).content == data
        assert "binary" in await refused(
            tools["edit"], filename=name, old_string="a", new_string="b"
        )


async def test_writing(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    await collection()
    user = await as_("user")
    tools = await offer(("docs/notes", "readwrite"))
    made = await run(tools["write"], filename="ü.md", content="one €")
    assert made == {"filename": "ü.md", "version": 1, "size_bytes": 7, "created": True}
    again = await run(tools["write"], filename="ü.md", content="two")
    assert (again["version"], again["created"]) == (2, False)
    assert await content(user, "ü.md") == b"two"
    await run(tools["write"], filename="s.json", content="", visibility="shared")
    kinds = {
        f["name"]: (f["content_type"], f["visibility"]) for f in (await user.get(FILES)).json()
    }
    assert kinds == {
        "ü.md": ("text/markdown", "private"),
        "s.json": ("application/json", "shared"),
    }
    for wrong in ({"filename": "../x"}, {"filename": ""}, {"filename": "a\nb"}, {"content": 7}):
        assert await refused(tools["write"], **{"filename": "a", "content": "x", **wrong})


async def test_editing(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    await collection()
    user = await as_("user")
    file = await uploaded(user, "a.yaml", "a: 1\nb: 1\n", content_type="application/x-own")
    tools = await offer(("docs/notes", "readwrite"))
    edit = tools["edit"]
    done = await run(edit, filename="a.yaml", old_string="a: 1", new_string="a: (\\1)")
    assert (done["version"], done["created"]) == (2, False)
    assert await content(user, "a.yaml") == b"a: (\\1)\nb: 1\n"
    given = {"filename": "a.yaml", "new_string": "x"}
    assert "was not found" in await refused(edit, **given, old_string="A: 1")
    assert "appears 2 times" in await refused(edit, **given, old_string="1")
    assert await refused(edit, **given, old_string="")
    await run(edit, **given, old_string="1", replace_all=True)
    assert await content(user, "a.yaml") == b"a: (\\x)\nb: x\n"
    (entry,) = (await user.get(FILES)).json()
    assert (entry["id"], entry["content_type"], entry["current_version"]) == (
        file["id"],
        "application/x-own",
        3,
    )


async def test_deleting(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user)
    tools = await offer(("docs/notes", "readwrite"))
    done = await run(tools["delete"], filename="a.txt")
    assert done == {"filename": "a.txt", "deleted": True}
    assert (await user.get(FILES)).json() == []
    assert "not found" in await refused(tools["delete"], filename="a.txt")


async def test_others_files(as_: SignIn, collection: MakeCollection, offer: Offer) -> None:
    """Not even an administrator's agent sees private ones, or changes shared ones of others."""
    await collection()
    other = await as_("other")
    await uploaded(other, "p", "private")
    await uploaded(other, "s", "shared", visibility="shared")
    tools = await offer(("docs/notes", "readwrite"))
    assert (await run(tools["get"], filename="s"))["content"] == "     1\tshared"
    assert "not found" in await refused(tools["get"], filename="p")
    assert "somebody else" in await refused(tools["write"], filename="s", content="x")
    given = {"old_string": "shared", "new_string": "x"}
    assert "somebody else" in await refused(tools["edit"], filename="s", **given)
    assert "somebody else" in await refused(tools["delete"], filename="s")
    admins = await offer(("docs/notes", "readwrite"), caller=await as_.user("admin"))
    for name in ("get", "delete"):
        assert "not found" in await refused(admins[name], filename="p")
    assert await content(other, "s") == b"shared"


async def test_the_right_is_asked_at_each_call(
    context: AppContext, as_: SignIn, collection: MakeCollection, offer: Offer
) -> None:
    """The collection may be gone, or be another one of that name."""
    await collection()
    tools = await offer(("docs/notes", "readwrite"))
    await (await as_("admin")).delete("/api/v1/collections/docs/notes")
    assert "not found" in await refused(tools["write"], filename="a", content="x")


async def test_limits_hold_for_agents(
    as_: SignIn, collection: MakeCollection, offer: Offer
) -> None:
    await collection(
        allow_private_files=False,
        max_file_size_mb=1,
        metadata_schema={"required": ["year"]},
        allowed_content_types=["text/markdown"],
    )
    tools = await offer(("docs/notes", "readwrite"))
    large = await refused(tools["write"], filename="a.md", content="x" * 1_100_000)
    assert "max_file_size_mb" in large
    assert "no 'text/html'" in await refused(tools["write"], filename="a.html", content="x")
    assert "schema" in await refused(tools["write"], filename="a.md", content="x")
    private = await refused(tools["write"], filename="a.md", content="x", visibility="private")
    assert "no private files" in private
    where = "/api/v1/collections/docs/notes"
    await (await as_("admin")).put(where, json={"metadata_schema": {}})
    await run(tools["write"], filename="a.md", content="x")
    (file,) = (await (await as_("user")).get(FILES)).json()
    assert file["visibility"] == "shared"  # where private ones are not allowed


async def test_filters_hold_for_agents(
    context: AppContext,
    as_: SignIn,
    collection: MakeCollection,
    offer: Offer,
    function_worker: RunningWorker,
) -> None:
    code = """
import base64

def handler(input_data, context):
    text = base64.b64decode(input_data["content_base64"]).decode()
    if "bad" in text:
        return {"approved": False, "reason": "bad"}
    return {"modified_content": base64.b64encode(text.upper().encode()).decode()}
"""
    await make_function(context, await as_.user("admin"), code, namespace="docs", name="check")
    await collection(content_filter_function="docs/check")
    user = await as_("user")
    tools = await offer(("docs/notes", "readwrite"))
    await run(tools["write"], filename="a", content="good")
    assert await content(user, "a") == b"GOOD"
    assert "refused" in await refused(tools["write"], filename="a", content="bad")
    given = {"filename": "a", "old_string": "OO"}
    assert "refused" in await refused(tools["edit"], **given, new_string="bad")
    await run(tools["edit"], **given, new_string="e")
    assert await content(user, "a") == b"GED"


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


async def test_pictures_are_shown_to_models(
    context: AppContext, as_: SignIn, collection: MakeCollection, offer: Offer
) -> None:
    """As artifacts of the chat, once for each version; what only says it is one is not."""
    from sinas.chat.pictures import with_pictures
    from sinas.chat.prompt import Line

    await collection()
    user = await as_("user")
    row = await as_.user("user")
    chat = await make_chat(context, row, await make_agent(context, row))
    await uploaded(user, "a.png", PNG, content_type="image/png")
    await uploaded(user, "b.png", b"<html>", content_type="image/png")
    tools = await offer(("docs/notes", "readonly"), chat_id=chat.id)
    found = await run(tools["get"], filename="a.png")
    assert await run(tools["get"], filename="a.png") | {"url": ""} == found | {"url": ""}
    artifacts = (await user.get(f"/chats/{chat.id}/artifacts")).json()
    assert [a["id"] for a in artifacts] == [f["id"] for f in found["files"]]
    import orjson

    line = Line(role="tool", content=orjson.dumps(found).decode())
    async with context.statement_sessions() as session:
        (shown,) = await with_pictures(session, chat.id, [line])
    assert [p.url[:26] for p in shown.pictures] == ["data:image/png;base64,iVBO"]
    fake = await run(tools["get"], filename="b.png")
    line = Line(role="tool", content=orjson.dumps(fake).decode())
    async with context.statement_sessions() as session:
        (shown,) = await with_pictures(session, chat.id, [line])
    assert shown.pictures == ()
