"""Content filters and post-upload functions: real ones, in a sandbox."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import select

from tests.factories.functions import make_function
from tests.resources.files.conftest import FILES, MakeCollection, content, upload, uploaded

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Execution
    from tests.fixtures.client import SignIn

pytestmark = pytest.mark.usefixtures("function_worker")

FILTER = """
import base64

def handler(input_data, context):
    text = base64.b64decode(input_data["content_base64"]).decode()
    if "secret" in text:
        return {"approved": False, "reason": "it has a secret"}
    if "name" in text:
        clean = base64.b64encode(text.replace("name", "****").encode()).decode()
        return {"modified_content": clean, "metadata": {"cleaned": True, "user": "filter's"}}
    if "answer " in text:
        return eval(text.split(" ", 1)[1])
    return {"approved": True, "metadata": {key: value for key, value in input_data.items()
                                           if key != "content_base64"}}
"""


@pytest.fixture
async def filtered(context: AppContext, as_: SignIn, collection: MakeCollection) -> None:
    admin = await as_.user("admin")
    await make_function(context, admin, FILTER, namespace="docs", name="check")
    await collection(content_filter_function="docs/check")


@pytest.mark.usefixtures("filtered")
async def test_what_a_filter_is_told(as_: SignIn) -> None:
    """It runs for users who have no right to call it."""
    user = await as_.key("user", ["sinas.collections/docs/notes.*:own"])
    file = await uploaded(user, "ü.txt", "fine", file_metadata={"own": 1})
    assert file["file_metadata"] == {
        "own": 1,
        "namespace": "docs",
        "collection": "notes",
        "filename": "ü.txt",
        "content_type": "text/plain",
        "size_bytes": 4,
        "user_metadata": {"own": 1},
        "user_id": file["user_id"],
    }


@pytest.mark.usefixtures("filtered")
async def test_refused(as_: SignIn, on_disk: Callable[[], list[str]]) -> None:
    user = await as_("user")
    await uploaded(user, content="fine", visibility="shared")
    for more in ({}, {"update_existing": True}, {"name": "b"}):
        answer = await upload(user, content="a secret", **more)
        assert answer.status_code == 400
        assert "it has a secret" in answer.json()["detail"]
    answer = await user.post(FILES, files={"file": ("c", b"a secret")})
    assert answer.status_code == 400
    assert [len(f["versions"]) for f in (await user.get(FILES)).json()] == [1]
    assert len(on_disk()) == 1


@pytest.mark.usefixtures("filtered")
async def test_replaced(as_: SignIn, context: AppContext, on_disk: Callable[[], list[str]]) -> None:
    """What is stored is what was approved; of what was sent nothing is left."""
    user = await as_("user")
    file = await uploaded(user, content="my name", file_metadata={"user": "own", "kept": 1})
    assert await content(user) == b"my ****"
    assert file["file_metadata"] == {"user": "filter's", "kept": 1, "cleaned": True}
    (entry,) = (await user.get(FILES)).json()
    (version,) = entry["versions"]
    assert version["size_bytes"] == 7
    assert len(on_disk()) == 1
    approval = await user.get(f"/executions/{version['filter_execution_id']}")
    assert approval.json()["trigger_type"] == "MANUAL"
    assert approval.json()["output_data"]["metadata"]["cleaned"] is True


@pytest.mark.usefixtures("filtered")
@pytest.mark.parametrize(
    ("returned", "status", "told"),
    [
        ("None", 502, "returned no object"),
        ("[1]", 502, "returned no object"),
        ("1 / 0", 502, "failed"),
        ("{'metadata': [1]}", 502, "metadata"),
        ("{'modified_content': 'no base64!'}", 502, "modified_content"),
        ("{'modified_content': 12345678}", 502, "modified_content"),
        ("{'approved': False}", 400, "no reason given"),
        ("{'approved': 0, 'reason': 7}", 400, "no reason given"),
        ("{'metadata': {'year': 'x'}}", 400, "schema"),
    ],
)
async def test_odd_answers(
    as_: SignIn, on_disk: Callable[[], list[str]], returned: str, status: int, told: str
) -> None:
    schema = {"properties": {"year": {"type": "integer"}}}
    where = "/api/v1/collections/docs/notes"
    await (await as_("admin")).put(where, json={"metadata_schema": schema})
    user = await as_("user")
    answer = await upload(user, content=f"answer {returned}")
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    assert (await user.get(FILES)).json() == []
    assert on_disk() == []


async def test_a_filter_that_is_not_there(as_: SignIn, collection: MakeCollection) -> None:
    await collection(content_filter_function="docs/none")
    answer = await upload(await as_("user"))
    assert (answer.status_code, answer.json()["code"]) == (502, "content_filter_failed")
    assert "docs/none" in answer.json()["detail"]


@pytest.mark.usefixtures("filtered")
async def test_more_than_a_filter_takes(context: AppContext, as_: SignIn) -> None:
    size = context.settings.function.max_input_bytes
    answer = await (await as_("user")).post(FILES, files={"file": ("a", b"x" * size)})
    assert answer.status_code == 413
    assert "FUNCTION_MAX_INPUT_BYTES" in answer.json()["detail"]


async def ended(context: AppContext, name: str, count: int) -> list[Execution]:
    """The runs of a function, once there are so many."""
    from sinas.models import TERMINAL_EXECUTION, Execution

    statement = select(Execution).where(Execution.function_name == name).order_by(Execution.id)
    async with asyncio.timeout(20):
        while True:
            async with context.unit() as unit:
                rows = (await unit.session.scalars(statement)).all()
            if len(rows) >= count and all(row.status in TERMINAL_EXECUTION for row in rows):
                return list(rows)
            await asyncio.sleep(0.02)


async def test_after_an_upload(
    context: AppContext, as_: SignIn, collection: MakeCollection
) -> None:
    admin = await as_.user("admin")
    await make_function(context, admin, namespace="docs", name="after")
    await collection(post_upload_function="docs/after")
    user = await as_.key("user", ["sinas.collections/docs/notes.*:own"])
    first = await uploaded(user, file_metadata={"a": 1})
    renamed = await uploaded(user)
    await uploaded(user, update_existing=True)
    rows = await ended(context, "after", 3)
    told: list[Any] = [row.output_data for row in rows]
    assert told[0] == {
        "file_id": first["id"],
        "namespace": "docs",
        "collection": "notes",
        "filename": "a.txt",
        "version": 1,
        "file_path": "docs/notes/a.txt",
        "user_id": first["user_id"],
        "metadata": {"a": 1},
    }
    # The name that the file has, not the one that was asked for.
    assert (told[1]["filename"], told[2]["version"]) == (renamed["name"], 2)
    assert {row.user_id for row in rows} == {UUID(first["user_id"])}


async def test_a_function_that_is_not_there_keeps_nobody_from_uploading(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection(post_upload_function="docs/none")
    assert (await upload(await as_("user"))).status_code == 201


async def test_functions_that_upload_end_somewhere(
    context: AppContext, as_: SignIn, collection: MakeCollection, live: str
) -> None:
    """One that is called after each upload and uploads: the chain has a limit."""
    code = """
import json, urllib.request

def handler(input_data, context):
    body = json.dumps({"name": "x", "content_type": "a/b", "content_base64": "AAAA"}).encode()
    headers = {"Authorization": "Bearer " + context["access_token"],
               "Content-Type": "application/json"}
    where = context["api_url"] + "/files/docs/notes"
    urllib.request.urlopen(urllib.request.Request(where, body, headers)).read()
"""
    assert base64.b64decode("AAAA")
    await make_function(context, await as_.user("admin"), code, namespace="docs", name="again")
    await collection(post_upload_function="docs/again")
    user = await as_("user")
    await uploaded(user)
    most = context.settings.function.max_depth
    rows = await ended(context, "again", most)
    assert [row.depth for row in rows] == list(range(1, most + 1))
    assert {row.error for row in rows} == {None}
    assert len((await user.get(FILES)).json()) == most + 1
