"""Contents as they are: parts, conditions, temporary and public addresses, and browsers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from sinas.auth.tokens import AccessClaims, TokenSigner
from tests.resources.files.conftest import FILES, MakeCollection, uploaded

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

RAW = f"{FILES}/a.txt/content"
DIGITS = "0123456789"


def local(url: str) -> str:
    return url[url.index("/files/") :]


async def address(client: httpx.AsyncClient, **query: object) -> str:
    answer = await client.post(f"{FILES}/a.txt/url", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return local(answer.json()["url"])


async def test_a_part(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user, content=DIGITS)
    whole = await user.get(RAW)
    assert (whole.status_code, whole.text, whole.headers["content-length"]) == (200, DIGITS, "10")
    assert whole.headers["accept-ranges"] == "bytes"
    part = await user.get(RAW, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.text) == (206, "234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert part.headers["content-length"] == "3"
    beyond = await user.get(RAW, headers={"range": "bytes=10-"})
    assert (beyond.status_code, beyond.content) == (416, b"")
    assert beyond.headers["content-range"] == "bytes */10"
    tail = await user.get(RAW, headers={"range": "bytes=-1", "if-range": whole.headers["etag"]})
    assert (tail.status_code, tail.text) == (206, "9")


async def test_conditions(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user, content="one")
    first = (await user.get(RAW)).headers
    same = await user.get(RAW, headers={"if-none-match": first["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first["etag"])
    since = await user.get(RAW, headers={"if-modified-since": first["last-modified"]})
    assert since.status_code == 304
    await uploaded(user, content="two", update_existing=True)
    assert (await user.get(RAW, headers={"if-none-match": first["etag"]})).text == "two"
    stale = await user.get(RAW, headers={"if-match": first["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    old = await user.get(RAW, params={"version": 1}, headers={"if-match": first["etag"]})
    assert old.text == "one"


async def test_a_temporary_address(
    as_: SignIn, client: httpx.AsyncClient, collection: MakeCollection
) -> None:
    await collection()
    user = await as_("user")
    file = await uploaded(user, content="one")
    answer = (await user.post(f"{FILES}/a.txt/url")).json()
    assert answer.pop("url").startswith("http://127.0.0.1:")
    assert answer == {
        "filename": "a.txt",
        "content_type": "text/plain",
        "version": 1,
        "expires_in": 3600,
    }
    first = await address(user)
    await uploaded(user, content="two", update_existing=True)
    # Of the version it was made for, to anybody; the one in the answer of an upload, too.
    served = await client.get(first)
    assert (served.status_code, served.text) == (200, "one")
    assert served.headers["cache-control"] == "private, max-age=300"
    assert (await client.get(local(file["url"]))).text == "one"
    assert (await client.get(await address(user))).text == "two"
    assert (await client.get(await address(user, version=1))).text == "one"
    assert (await client.get(first, headers={"range": "bytes=0-0"})).text == "o"
    assert (await user.post(f"{FILES}/a.txt/url", params={"version": 7})).status_code == 404
    await user.delete(f"{FILES}/a.txt")
    assert (await client.get(first)).status_code == 404


@pytest.mark.parametrize(
    ("asked", "given"),
    [(1, 60), (-5, 60), (61, 61), (2_592_000, 2_592_000), (10**30, 2_592_000)],
)
async def test_how_long_an_address_lasts(
    as_: SignIn, collection: MakeCollection, asked: int, given: int
) -> None:
    await collection()
    user = await as_("user")
    await uploaded(user)
    answer = await user.post(f"{FILES}/a.txt/url", params={"expires_in": asked})
    assert answer.json()["expires_in"] == given


async def test_addresses_that_are_none(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, collection: MakeCollection
) -> None:
    await collection()
    user = await as_.user("user")
    file = await uploaded(await as_("user"))
    claims = {"file_id": file["id"], "version": 1}
    signer, hour = context.signer, timedelta(hours=1)
    good = signer.mint_link("file_serve", claims, hour)
    assert (await client.get(f"/files/serve/{good}")).status_code == 200
    for token in (
        "nonsense",
        "a.b.c",
        "%00",
        good[:-3] + "AAA",
        signer.mint_link("file_serve", claims, timedelta(seconds=-1)),
        signer.mint_link("something_else", claims, hour),
        signer.mint_link("file_serve", {"version": 1}, hour),
        signer.mint_link("file_serve", {"file_id": "x", "version": 1}, hour),
        signer.mint(AccessClaims(user_id=user.id, email=user.email), hour),
        TokenSigner("another key of somebody who would like to be us").mint_link(
            "file_serve", claims, hour
        ),
    ):
        answer = await client.get(f"/files/serve/{token}")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), token
    # And no address is a credential.
    assert (await client.get(FILES, headers={"authorization": f"Bearer {good}"})).status_code == 401


async def test_public_files(
    as_: SignIn, client: httpx.AsyncClient, collection: MakeCollection
) -> None:
    await collection(is_public=True)
    user = await as_("user")
    public = await uploaded(user, "s.txt", "everybody's", visibility="shared")
    await uploaded(user, "p.txt", "mine")
    answer = await client.get(local(public["url"]))
    assert (answer.status_code, answer.text) == (200, "everybody's")
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert local(public["url"]) == "/files/public/docs/notes/s.txt"
    listed = {file["name"]: file["url"] for file in (await user.get(FILES)).json()}
    assert listed == {"s.txt": public["url"], "p.txt": None}
    for name in ("p.txt", "none", "..%2fs.txt", "%00"):
        absent = await client.get(f"/files/public/docs/notes/{name}")
        assert absent.status_code in (404, 422), name
    await (await as_("admin")).put("/api/v1/collections/docs/notes", json={"is_public": False})
    assert (await client.get(local(public["url"]))).status_code == 404
    assert (await client.get("/files/public/docs/none/s.txt")).status_code == 404


SCRIPT = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(document.cookie)</script></svg>"


@pytest.mark.parametrize(
    ("name", "content_type", "sent"),
    [
        ("a.txt", "text/html", "application/octet-stream"),
        ("a.txt", "image/svg+xml", "image/svg+xml"),
        ("a.txt", "application/xhtml+xml", "application/octet-stream"),
        ("a.txt", "text/javascript", "application/octet-stream"),
        ("a.txt", "image/png", "image/png"),
        ("a.html", "text/plain", "text/plain; charset=utf-8"),
    ],
)
async def test_what_is_uploaded_does_not_act(
    as_: SignIn,
    client: httpx.AsyncClient,
    collection: MakeCollection,
    name: str,
    content_type: str,
    sent: str,
) -> None:
    """On all three ways out: nothing that runs, nothing that is sniffed, no origin of ours."""
    await collection(is_public=True)
    user = await as_("user")
    file = await uploaded(user, name, SCRIPT, content_type=content_type, visibility="shared")
    url = (await user.post(f"{FILES}/{name}/url")).json()["url"]
    for answer in (
        await client.get(local(file["url"])),
        await client.get(local(url)),
        await user.get(f"{FILES}/{name}/content"),
    ):
        assert answer.text == SCRIPT
        assert answer.headers.get_list("content-type") == [sent]
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert policy.endswith("; sandbox")
        is_shown = sent.startswith(("image/png", "text/plain"))
        wanted = "inline" if is_shown else "attachment"
        assert answer.headers["content-disposition"] == f'{wanted}; filename="{name}"'


async def test_links_begin_with_the_domain() -> None:
    from sinas.settings import CoreSettings

    assert CoreSettings(domain="files.example.com").links_url == "https://files.example.com"
    assert CoreSettings(public_url="https://y/", domain="").links_url == "https://y"
    assert CoreSettings(domain="https://a.example/").links_url == "https://a.example"
    assert CoreSettings(domain="localhost", port=7).links_url == "http://127.0.0.1:7"
    assert CoreSettings(internal_api_url="http://x:1/").links_url == "http://x:1"
