"""Files of a chat: only its owner gets them, and no browser runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from sinas.kit.ids import uuid7
from sinas.models import Artifact, Chat, Execution
from sinas.resources.artifacts.service import media_type
from tests.factories.artifacts import make_artifact
from tests.factories.chats import make_agent, make_chat
from tests.factories.functions import make_execution, make_function

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter


@pytest.fixture
async def chat(context: AppContext, as_: SignIn) -> Chat:
    owner = await as_.user("user")
    return await make_chat(context, owner, await make_agent(context, owner))


async def test_a_file_comes_as_something_to_save(
    context: AppContext, as_: SignIn, chat: Chat
) -> None:
    page = b"<script>alert(1)</script>"
    row = await make_artifact(context, chat, "out/\u00fcber uns.html", page, "text/html")
    answer = await (await as_("user")).get(f"/chats/{chat.id}/artifacts/{row.id}")
    assert answer.status_code == 200
    assert answer.content == page
    headers = answer.headers
    assert headers["content-type"].startswith("text/html")
    expected = "attachment; filename*=UTF-8''%C3%BCber%20uns.html"
    assert headers["content-disposition"] == expected
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")


async def test_listed_newest_first_without_contents(
    context: AppContext, as_: SignIn, chat: Chat, query_counter: QueryCounter
) -> None:
    for number in range(3):
        await make_artifact(context, chat, f"{number}.txt", b"x" * number)
    client = await as_("user")
    path = f"/chats/{chat.id}/artifacts"
    await client.get(path)
    with query_counter() as queries:
        rows = (await client.get(path)).json()
    assert [(row["name"], row["size_bytes"]) for row in rows] == [
        ("2.txt", 2),
        ("1.txt", 1),
        ("0.txt", 0),
    ]
    assert rows[0]["url"] == f"{path}/{rows[0]['id']}"
    assert not any("artifacts.content" in statement for statement in queries.statements)
    paged = await client.get(path, params={"skip": 1, "limit": 1})
    assert [row["name"] for row in paged.json()] == ["1.txt"]


async def test_nobody_else_gets_them(context: AppContext, as_: SignIn, chat: Chat) -> None:
    row = await make_artifact(context, chat)
    path = f"/chats/{chat.id}/artifacts"
    for who in ("other", "admin"):
        client = await as_(who)
        assert (await client.get(path)).status_code == 404
        assert (await client.get(f"{path}/{row.id}")).status_code == 404
    owner = await as_("user")
    assert (await owner.get(f"{path}/{uuid7()}")).status_code == 404
    user = await as_.user("user")
    another = await make_chat(context, user, await make_agent(context, user))
    assert (await owner.get(f"/chats/{another.id}/artifacts/{row.id}")).status_code == 404


async def test_they_live_as_long_as_their_chat(
    context: AppContext, as_: SignIn, chat: Chat
) -> None:
    function = await make_function(context, await as_.user("user"))
    execution = await make_execution(context, function)
    await make_artifact(context, chat, execution_id=execution.id)
    async with context.unit() as unit:
        await unit.session.delete(await unit.session.get_one(Execution, execution.id))
    async with context.unit() as unit:
        assert await unit.session.scalar(select(func.count(Artifact.id))) == 1
        await unit.session.delete(await unit.session.get_one(Chat, chat.id))
    async with context.unit() as unit:
        assert await unit.session.scalar(select(func.count(Artifact.id))) == 0


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n...", "image/png"),
        ("a.txt", b"\xff\xd8\xff...", "image/jpeg"),
        ("a", b"GIF89a...", "image/gif"),
        ("a", b"RIFF....WEBPVP8 ", "image/webp"),
        ("a.png", b"<svg/>", "application/octet-stream"),
        ("a.csv", b"a,b", "text/csv"),
        ("a.json", b"{}", "application/json"),
        ("a.html", b"<p>", "text/html"),
        ("a", b"", "application/octet-stream"),
    ],
)
def test_media_types_go_by_content_for_images(name: str, content: bytes, expected: str) -> None:
    assert media_type(name, content) == expected
