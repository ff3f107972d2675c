"""Who sees, changes and deletes whose files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.resources.files.conftest import FILES, MakeCollection, content, upload, uploaded

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

EVERY = ("upload", "download", "list", "delete_files")


async def names(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    answer = await client.get(FILES)
    assert answer.status_code == 200, answer.text
    return [(file["name"], file["visibility"]) for file in answer.json()]


async def test_private_files_are_their_owners(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user, other = await as_("user"), await as_("other")
    await uploaded(user, "private.txt")
    await uploaded(user, "shared.txt", visibility="shared")
    assert await names(other) == [("shared.txt", "shared")]
    assert await content(other, "shared.txt") == b"hello"
    for method, path in (
        ("GET", "private.txt"),
        ("GET", "private.txt/content"),
        ("POST", "private.txt/url"),
        ("DELETE", "private.txt"),
        ("PATCH", "private.txt"),
    ):
        body: dict[str, Any] | None = {"file_metadata": {}} if method == "PATCH" else None
        theirs = await other.request(method, f"{FILES}/{path}", json=body)
        absent = await other.request(
            method, f"{FILES}/{path.replace('private', 'none')}", json=body
        )
        assert (theirs.status_code, absent.status_code) == (404, 404)
        assert theirs.json()["detail"] == absent.json()["detail"].replace("none", "private")


async def test_others_shared_files_are_only_read(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user, other = await as_("user"), await as_("other")
    await uploaded(user, visibility="shared")
    assert (await other.delete(f"{FILES}/a.txt")).status_code == 403
    answer = await other.patch(f"{FILES}/a.txt", json={"file_metadata": {"a": 1}})
    assert answer.status_code == 403
    for visibility in ("private", "shared"):
        answer = await upload(other, content="x", update_existing=True, visibility=visibility)
        assert answer.status_code == 403
        # Without asking for an update, it is another file.
        renamed = await uploaded(other, content="x", visibility=visibility)
        assert renamed["name"].startswith("a_")
    assert await content(user) == b"hello"


async def test_one_name_of_several_people(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user, other = await as_("user"), await as_("other")
    assert (await uploaded(user, content="user's"))["name"] == "a.txt"
    assert (await uploaded(other, content="other's"))["name"] == "a.txt"
    third = await as_("third")
    assert (await uploaded(third, content="everybody's", visibility="shared"))["name"] == "a.txt"
    # One's own before the shared one.
    assert await content(user) == b"user's"
    assert await content(other) == b"other's"
    assert await content(await as_("fourth")) == b"everybody's"
    assert await names(user) == [("a.txt", "private"), ("a.txt", "shared")]
    await uploaded(user, content="new", update_existing=True)
    assert await content(third) == b"everybody's"
    assert (await user.delete(f"{FILES}/a.txt")).status_code == 204
    assert await content(user) == b"everybody's"


async def test_who_may_do_all(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user, admin = await as_("user"), await as_("admin")
    await uploaded(user)
    assert await names(admin) == [("a.txt", "private")]
    assert await content(admin) == b"hello"
    answer = await admin.patch(f"{FILES}/a.txt", json={"file_metadata": {"a": 1}})
    assert answer.status_code == 200
    await uploaded(user, "s.txt", visibility="shared")
    updated = await uploaded(admin, "s.txt", "by admin", visibility="shared", update_existing=True)
    assert updated["current_version"] == 2
    assert updated["user_id"] == str((await as_.user("user")).id)
    assert (await admin.delete(f"{FILES}/a.txt")).status_code == 204
    assert await names(user) == [("s.txt", "shared")]


@pytest.mark.parametrize(
    ("method", "path", "body", "action"),
    [
        ("POST", "", {"name": "b", "content_type": "a/b", "content_base64": ""}, "upload"),
        ("GET", "", None, "list"),
        ("GET", "/a.txt", None, "download"),
        ("GET", "/a.txt/content", None, "download"),
        ("POST", "/a.txt/url", None, "download"),
        ("PATCH", "/a.txt", {"file_metadata": {}}, "upload"),
        ("DELETE", "/a.txt", None, "delete_files"),
    ],
)
async def test_each_operation_needs_its_right(
    as_: SignIn,
    collection: MakeCollection,
    method: str,
    path: str,
    body: Any,
    action: str,
) -> None:
    """For that collection; the refusal tells nothing about what is there."""
    await collection()
    await uploaded(await as_("user"))
    prefix = "sinas.collections/docs"
    without = await as_.key("user", [f"{prefix}/notes.{a}:own" for a in EVERY if a != action])
    elsewhere = await as_.key("user", [f"{prefix}/other.{action}:own"])
    for key in (without, elsewhere):
        for where in (FILES, "/files/docs/none"):
            answer = await key.request(method, f"{where}{path}", json=body)
            assert answer.status_code == 403, answer.text
    key = await as_.key("user", [f"{prefix}/notes.{action}:own"])
    answer = await key.request(method, f"{FILES}{path}", json=body)
    assert answer.is_success, answer.text
    assert (await key.request(method, f"/files/docs/none{path}", json=body)).status_code == 403


async def test_deleting_a_collection_needs_more_than_deleting_files(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection()
    assert (await (await as_("user")).delete("/api/v1/collections/docs/notes")).status_code == 404
    assert (await (await as_("admin")).delete("/api/v1/collections/docs/notes")).status_code == 204


async def test_functions_of_a_collection_are_such_as_its_author_may_run(as_: SignIn) -> None:
    allowed = [f"sinas.collections/docs/*.{action}:own" for action in ("create", "read", "update")]
    key = await as_.key("user", [*allowed, "sinas.functions/docs/good.execute:own"])
    body = {"namespace": "docs", "name": "notes"}
    for field in ("content_filter_function", "post_upload_function"):
        answer = await key.post("/api/v1/collections", json={**body, field: "docs/bad"})
        assert answer.status_code == 403, answer.text
    answer = await key.post(
        "/api/v1/collections", json={**body, "content_filter_function": "docs/good"}
    )
    assert answer.status_code == 201, answer.text
    where = "/api/v1/collections/docs/notes"
    assert (await key.put(where, json={"post_upload_function": "docs/bad"})).status_code == 403
    # What is there already is not asked about again.
    limited = await as_.key("user", allowed)
    assert (
        await limited.put(where, json={"content_filter_function": "docs/good"})
    ).status_code == 200
    answer = await limited.put(where, json={"content_filter_function": None})
    assert answer.json()["content_filter_function"] is None
