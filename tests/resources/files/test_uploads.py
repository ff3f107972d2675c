"""Uploads: both forms, names, versions, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select

from tests.resources.files.conftest import FILES, MakeCollection, content, upload, uploaded

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

OnDisk = Callable[[], list[str]]


async def listed(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get(FILES)).json()
    return found


async def test_in_json(as_: SignIn, collection: MakeCollection) -> None:
    from sinas.resources.files.schemas import FileWithVersions

    await collection()
    user = await as_("user")
    file = await uploaded(user, file_metadata={"a": [1]}, visibility="shared")
    assert (file["namespace"], file["name"], file["current_version"]) == ("docs", "a.txt", 1)
    assert (file["content_type"], file["visibility"]) == ("text/plain", "shared")
    assert file["file_metadata"] == {"a": [1]}
    answer = await user.get(f"{FILES}/a.txt")
    assert answer.json() == {
        "content_base64": "aGVsbG8=",
        "content_type": "text/plain",
        "file_metadata": {"a": [1]},
        "version": 1,
    }
    (entry,) = await listed(user)
    FileWithVersions.model_validate(entry, extra="forbid")
    (version,) = entry["versions"]
    assert entry == file | {"url": None, "versions": [version]}
    assert version["created_at"] == file["created_at"]
    assert (version["version_number"], version["size_bytes"]) == (1, 5)
    assert version["hash_sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert version["uploaded_by"] == file["user_id"]


async def test_as_a_form(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    data = bytes(range(256)) * 5000
    answer = await user.post(
        FILES,
        files={"file": ("bild.bin", data, "application/x-own")},
        data={"file_metadata": '{"a": 1}', "visibility": "shared", "update_existing": "true"},
    )
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert (file["name"], file["content_type"]) == ("bild.bin", "application/x-own")
    assert (file["visibility"], file["file_metadata"]) == ("shared", {"a": 1})
    assert await content(user, "bild.bin") == data


async def test_what_a_form_leaves_out(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    answer = await user.post(FILES, files={"file": ("ü b.md", b"", "application/octet-stream")})
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert (file["name"], file["content_type"]) == ("ü b.md", "text/markdown")
    assert (file["visibility"], file["file_metadata"]) == ("private", {})
    assert await content(user, "ü b.md") == b""
    answer = await user.post(
        FILES, files={"file": ("x", b"1")}, data={"name": "y.json", "content_type": "text/plain"}
    )
    assert (answer.json()["name"], answer.json()["content_type"]) == ("y.json", "text/plain")


async def test_more_than_other_bodies_may_have(as_: SignIn, collection: MakeCollection) -> None:
    """In both forms, in pieces of odd sizes."""
    await collection()
    user = await as_("user")
    data = hashlib.shake_256(b"seed").digest(36 * 1024 * 1024)
    answer = await user.post(FILES, files={"file": ("form.bin", data)})
    assert answer.status_code == 201, answer.text
    body = json.dumps(
        {
            "name": "json.bin",
            "content_base64": base64.b64encode(data).decode(),
            "content_type": "application/octet-stream",
        }
    ).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65_521):
            yield body[at : at + 65_521]

    answer = await user.post(FILES, content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    hashes = {file["versions"][0]["hash_sha256"] for file in await listed(user)}
    assert hashes == {hashlib.sha256(data).hexdigest()}


async def test_a_new_version(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    first = await uploaded(user, content="one", file_metadata={"kept": 1}, visibility="shared")
    second = await uploaded(user, content="two", update_existing=True, content_type="text/markdown")
    assert (second["id"], second["current_version"]) == (first["id"], 2)
    # What is not said stays, and so does who sees it.
    assert (second["file_metadata"], second["visibility"]) == ({"kept": 1}, "shared")
    assert second["content_type"] == "text/markdown"
    third = await uploaded(user, content="three", update_existing=True, file_metadata={})
    assert third["file_metadata"] == {}
    assert await content(user) == b"three"
    assert await content(user, version=1) == b"one"
    assert await content(user, version=2) == b"two"
    assert (await user.get(f"{FILES}/a.txt", params={"version": 9})).status_code == 404
    (entry,) = await listed(user)
    assert [v["version_number"] for v in entry["versions"]] == [1, 2, 3]
    kinds = [v["content_type"] for v in entry["versions"]]
    assert kinds == ["text/plain", "text/markdown", "text/plain"]


async def test_a_name_that_is_taken(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user, "a.b.txt", "one")
    second = await uploaded(user, "a.b.txt", "two")
    stem, _, rest = second["name"].partition("_")
    assert (stem, rest[8:], len(rest)) == ("a.b", ".txt", 12)
    assert await content(user, "a.b.txt") == b"one"
    long = "x" * 251 + ".txt"
    await uploaded(user, long)
    renamed = await uploaded(user, long)
    assert len(renamed["name"]) == 255
    assert renamed["name"].endswith(".txt")


@pytest.mark.parametrize(
    "name",
    [
        "ü.txt",
        "日本語.txt",
        "a b 'c' &.txt",
        "👩‍👩‍👧.png",
        "%2e%2e",
        "search",
        "a?b#c",
        ".env",
        "CON",
    ],
)
async def test_odd_names(as_: SignIn, collection: MakeCollection, name: str) -> None:
    from urllib.parse import quote

    await collection(is_public=True)
    user = await as_("user")
    assert (await uploaded(user, name, "odd", visibility="shared"))["name"] == name
    path = f"{FILES}/{quote(name, safe='')}"
    assert (await user.get(path)).status_code == 200
    url = (await listed(user))[0]["url"]
    answer = await user.get(url[url.index("/files") :])
    assert answer.content == b"odd"
    assert (await user.delete(path)).status_code == 204
    assert await listed(user) == []


async def test_one_name_in_two_forms_of_unicode(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    composed, decomposed = "\u00e9.txt", "e\u0301.txt"
    await uploaded(user, decomposed)
    again = await uploaded(user, composed, update_existing=True)
    assert (again["name"], again["current_version"]) == (composed, 2)
    assert await content(user, decomposed) == b"hello"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "../../etc/passwd",
        "..\\x",
        "..",
        ".",
        "...",
        " ",
        "a\x00b",
        "a\nb",
        "a\x7fb",
        "evil\u202egpj.exe",
        "a\u2066b",
        "a\u2028b",
        "x" * 256,
        7,
        None,
    ],
)
async def test_names_that_are_refused(as_: SignIn, collection: MakeCollection, name: Any) -> None:
    await collection()
    user = await as_("user")
    answer = await upload(user, name)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "name"
    if isinstance(name, str) and name.isprintable() and "/" not in name and "\\" not in name:
        answer = await user.post(FILES, files={"file": ("ok", b"x")}, data={"name": name or " "})
        assert answer.status_code == 422
    assert await listed(user) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_type", "text"),
        ("content_type", "text/html\r\nSet-Cookie: a=b"),
        ("content_type", ""),
        ("content_type", "x" * 256),
        ("visibility", "public"),
        ("visibility", "group"),
        ("file_metadata", []),
        ("file_metadata", {"a": "b\x00"}),
        ("file_metadata", {"a": "x" * 300_000}),
        ("update_existing", "perhaps"),
        ("surprise", 1),
        ("content_base64", None),
        ("content_base64", 7),
        ("content_base64", ["aGVsbG8="]),
    ],
)
async def test_fields_that_are_refused(
    as_: SignIn, collection: MakeCollection, on_disk: OnDisk, field: str, value: Any
) -> None:
    await collection()
    user = await as_("user")
    body = {"name": "a", "content_base64": "aGVsbG8=", "content_type": "text/plain"}
    answer = await user.post(FILES, json={**body, field: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)
    assert await listed(user) == []
    assert on_disk() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name":"a","content_type":"text/plain"}', 422),
        (b'{"content_base64":"aGVsbG8="}', 422),
        (b'{"name":"a","content_type":"text/plain","content_base64":"aGVsbG8"}', 400),
        (b'{"name":"a","content_type":"text/plain","content_base64":"aGVs=bG8="}', 400),
        (b'{"name":"a","content_type":"text/plain","content_base64":"a-_s"}', 400),
        (b'{"name":"a","content_type":"text/plain","content_base64":"\\ud800"}', 400),
        (b'{"name":"a","content_type":"text/plain","content_base64":"AA=="', 422),
        (
            b'{"name":"a","content_type":"text/plain","content_base64":"AA==","content_base64":""}',
            422,
        ),
        (
            b'{"name":"a","content_type":"text/plain","content_base64":"AA==","file_metadata":{"a":NaN}}',
            422,
        ),
        (
            b'{"name":"a","content_type":"text/plain","content_base64":"AA==","file_metadata":'
            + b'{"a":' * 9000,
            422,
        ),
        (
            b'{"name":"a","content_type":"text/plain","content_base64":"AA==","file_metadata":{"a":1e999}}',
            422,
        ),
        (
            b'{"name":"a","content_type":"text/plain","content_base64":"AA==","x":"'
            + b"y" * 2_000_000,
            413,
        ),
        (b'["content_base64"]', 422),
        (b'"content_base64"', 422),
        (b"null", 422),
        (b"", 422),
        (b"\xff\xfe", 422),
        (b"nonsense", 422),
    ],
)
async def test_bodies_that_are_refused(
    as_: SignIn, collection: MakeCollection, on_disk: OnDisk, body: bytes, status: int
) -> None:
    await collection()
    user = await as_("user")
    answer = await user.post(FILES, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]
    assert await listed(user) == []
    assert on_disk() == []


def form(*parts: bytes) -> bytes:
    return b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + b"--B--\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'


@pytest.mark.parametrize(
    ("body", "boundary", "status"),
    [
        (form(), "B", 422),
        (form(b'Content-Disposition: form-data; name="name"\r\n\r\na'), "B", 422),
        (form(FILE, FILE), "B", 422),
        (form(FILE, b'Content-Disposition: form-data; name="surprise"\r\n\r\na'), "B", 422),
        (form(FILE, b'Content-Disposition: form-data; name="file_metadata"\r\n\r\n{'), "B", 422),
        (form(FILE, b'Content-Disposition: form-data; name="file_metadata"\r\n\r\n[]'), "B", 422),
        (form(FILE, b'Content-Disposition: form-data; name="name"\r\n\r\n\xff'), "B", 422),
        (form(FILE, *2 * [b'Content-Disposition: form-data; name="name"\r\n\r\na']), "B", 422),
        (form(FILE.replace(b'"a"', b'"../a"')), "B", 422),
        (form(FILE.replace(b"\r\n\r\n", b"\r\nContent-Type: x\r\n\r\n")), "B", 422),
        (form(FILE)[:-8], "B", 400),
        (form(FILE.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 1_100_000 + b"\r\n\r\n")), "B", 400),
        (
            form(
                *(b'Content-Disposition: form-data; name="%d"\r\n\r\n' % n for n in range(30_000))
            ),
            "B",
            413,
        ),
        (b"nonsense", "B", 400),
        (form(FILE), "C", 400),
        (form(FILE), "", 400),
        (form(FILE), "x" * 300, 400),
    ],
)
async def test_forms_that_are_refused(
    as_: SignIn,
    collection: MakeCollection,
    on_disk: OnDisk,
    body: bytes,
    boundary: str,
    status: int,
) -> None:
    await collection()
    user = await as_("user")
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = await user.post(FILES, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert await listed(user) == []
    assert on_disk() == []


async def test_escapes_and_white_space_in_base64(as_: SignIn, collection: MakeCollection) -> None:
    """Some programs write `\\/` for a slash, and break lines."""
    await collection()
    user = await as_("user")
    data = b"\xff\xff\xff\xfb\xef\xbe" * 100
    text = base64.b64encode(data).decode()
    escaped = text.replace("/", "\\/").replace("+", "\\u002b").replace("A", "\\n A")
    body = f'{{"content_type": "a/b", "content_base64" :  "{escaped}" , "name": "x"}}'
    answer = await user.post(FILES, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    assert await content(user, "x") == data


async def test_metadata_keep_the_schema(as_: SignIn, collection: MakeCollection) -> None:
    schema = {"properties": {"year": {"type": "integer"}}, "required": ["year"]}
    await collection(metadata_schema=schema)
    user = await as_("user")
    for metadata in ({}, {"year": "x"}):
        answer = await upload(user, file_metadata=metadata)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"].startswith("file_metadata")
    await uploaded(user, file_metadata={"year": 1})
    # A new version need not repeat them.
    assert (await uploaded(user, update_existing=True))["file_metadata"] == {"year": 1}
    answer = await user.patch(f"{FILES}/a.txt", json={"file_metadata": {"year": "x"}})
    assert answer.status_code == 400
    answer = await user.patch(f"{FILES}/a.txt", json={"file_metadata": {"year": 2, "more": 1}})
    assert answer.json()["file_metadata"] == {"year": 2, "more": 1}
    assert (await upload(user, "new", update_existing=True)).status_code == 400


async def test_visibilities_and_types_that_are_allowed(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection(allow_private_files=False, allowed_content_types=["text/*", "image/png"])
    user = await as_("user")
    answer = await upload(user)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "visibility")
    answer = await upload(user, visibility="shared", content_type="image/svg+xml")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "content_type")
    await uploaded(user, visibility="shared", content_type="Image/PNG")


async def test_what_changed_is_not_overwritten(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user, content="one")
    etag = (await user.get(f"{FILES}/a.txt/content")).headers["etag"]
    user.headers["if-match"] = etag
    await uploaded(user, content="two", update_existing=True)
    assert (await upload(user, content="three", update_existing=True)).status_code == 412
    assert (await upload(user, "new", update_existing=True)).status_code == 412
    answer = await user.patch(f"{FILES}/a.txt", json={"file_metadata": {"a": 1}})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert (await user.delete(f"{FILES}/a.txt")).status_code == 412
    user.headers["if-match"] = "*"
    assert (await user.delete(f"{FILES}/a.txt")).status_code == 204
    assert await listed(user) == []


async def test_collections_are_not_made_by_uploads(as_: SignIn) -> None:
    user = await as_("user")
    assert (await upload(user)).status_code == 404
    assert (await user.get("/api/v1/collections")).json() == []


async def test_a_client_that_goes_away_leaves_nothing(
    context: AppContext, as_: SignIn, collection: MakeCollection, on_disk: OnDisk, live: str
) -> None:
    from sinas.models import Blob

    async def blobs() -> int:
        async with context.statement_unit() as unit:
            return len((await unit.session.scalars(select(Blob.id))).all())

    await collection()
    host, _, port = live.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    token = (await as_("user")).headers["authorization"]
    head = f"POST {FILES} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 999999\r\n\r\n"
    writer.write(head.encode() + b'{"content_base64":"' + b"AAAA" * 100_000)
    await writer.drain()
    async with asyncio.timeout(10):
        while not await blobs():
            await asyncio.sleep(0.01)
        writer.close()
        while await blobs():
            await asyncio.sleep(0.01)
    assert on_disk() == []
