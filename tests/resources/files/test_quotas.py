"""Limits of size, also when everybody uploads at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from tests.resources.files.conftest import FILES, MakeCollection, content, upload, uploaded

if TYPE_CHECKING:
    import httpx

    from tests.fixtures.client import SignIn

MIB, GIB = 1024**2, 1024**3
WHERE = "/api/v1/collections/docs/notes"


async def stored_bytes(client: httpx.AsyncClient) -> int:
    found: int = (await client.get(WHERE)).json()["stored_bytes"]
    return found


async def test_a_file_that_is_too_large(
    as_: SignIn, collection: MakeCollection, on_disk: Callable[[], list[str]]
) -> None:
    await collection(max_file_size_mb=1)
    user = await as_("user")
    await uploaded(user, "fits", b"x" * MIB)
    answers = [
        await upload(user, "large", b"x" * (MIB + 1)),
        await user.post(FILES, files={"file": ("large", b"x" * (MIB + 1))}),
    ]

    async def endless() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            yield b"x" * 65_536

    headers = {"content-type": "multipart/form-data; boundary=B"}
    answers.append(await user.post(FILES, content=endless(), headers=headers))
    for answer in answers:
        assert answer.status_code == 413, answer.text
        assert "max_file_size_mb" in answer.json()["detail"]
    assert len(on_disk()) == 1
    assert await stored_bytes(await as_("admin")) == MIB


async def test_what_is_announced_is_refused_before_it_is_read(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection(max_file_size_mb=1)
    user = await as_("user")

    read = []

    async def unread() -> AsyncIterator[bytes]:
        read.append(1)
        yield b""

    for kind in ("application/json", "multipart/form-data; boundary=B"):
        headers = {"content-type": kind, "content-length": str(50 * MIB)}
        assert (await user.post(FILES, content=unread(), headers=headers)).status_code == 413
    assert read == []


async def test_all_at_once(as_: SignIn, collection: MakeCollection) -> None:
    """Room for three of ten: three get it, whoever comes first."""
    await collection(max_total_size_gb=1, stored_bytes=GIB - 100)
    user = await as_("user")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(upload(user, f"f{n}", b"x" * 30)) for n in range(10)]
    statuses = sorted(task.result().status_code for task in tasks)
    assert statuses == [201] * 3 + [413] * 7
    assert await stored_bytes(await as_("admin")) == GIB - 10
    full = next(t.result() for t in tasks if t.result().status_code == 413)
    assert "max_total_size_gb" in full.json()["detail"]
    assert len((await user.get(FILES)).json()) == 3


async def test_versions_count_and_deleted_ones_do_not(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection(max_total_size_gb=1, stored_bytes=GIB - 100)
    user, admin = await as_("user"), await as_("admin")
    for _ in range(2):
        await uploaded(user, content=b"x" * 40, update_existing=True)
    assert await stored_bytes(admin) == GIB - 20
    assert (await upload(user, content=b"x" * 40, update_existing=True)).status_code == 413
    await user.delete(f"{FILES}/a.txt")
    assert await stored_bytes(admin) == GIB - 100
    # Counting is no change of the collection itself.
    row = (await admin.get(WHERE)).json()
    assert row["created_at"] == row["updated_at"]


async def test_versions_of_one_file_all_at_once(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    async with asyncio.TaskGroup() as group:
        for n in range(8):
            group.create_task(uploaded(user, content=str(n), update_existing=True))
    (file,) = (await user.get(FILES)).json()
    assert [v["version_number"] for v in file["versions"]] == list(range(1, 9))
    contents = {await content(user, version=n) for n in range(1, 9)}
    assert contents == {str(n).encode() for n in range(8)}


async def test_one_name_all_at_once(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user, other = await as_("user"), await as_("other")
    async with asyncio.TaskGroup() as group:
        for client in (user, other) * 4:
            group.create_task(uploaded(client, visibility="shared"))
    names = [file["name"] for file in (await user.get(FILES)).json()]
    assert (len(names), len(set(names))) == (8, 8)


async def test_what_counts_is_what_the_collection_says_when_it_is_stored(
    as_: SignIn, collection: MakeCollection, on_disk: Callable[[], list[str]]
) -> None:
    """Rules may change, and collections go, while a long upload is on its way."""
    await collection()
    user, admin = await as_("user"), await as_("admin")
    changes: list[tuple[dict[str, object] | None, int]] = [
        ({"allow_private_files": False}, 400),
        ({"content_filter_function": "a/b"}, 409),
        (None, 404),
    ]
    for change, status in changes:

        async def slow(change: dict[str, object] | None = change) -> AsyncIterator[bytes]:
            yield b'{"name":"a","content_type":"text/plain","content_base64":"'
            if change is None:
                await admin.delete(WHERE)
            else:
                assert (await admin.put(WHERE, json=change)).status_code == 200
            yield b'AAAA"}'

        answer = await user.post(FILES, content=slow())
        assert answer.status_code == status, answer.text
        await admin.put(WHERE, json={"content_filter_function": None, "allow_private_files": True})
    assert on_disk() == []
