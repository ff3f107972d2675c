"""One promise, kept by a directory and by a server that speaks S3."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sinas.storage.base import ContentMissingError, StorageError
from sinas.storage.local import LocalStorage
from sinas.storage.s3 import S3Storage
from tests.fixtures.state import in_own_task
from tests.support.s3_server import s3_server

if TYPE_CHECKING:
    from sinas.settings import FileSettings
    from sinas.storage.base import Storage

MIB = 1024 * 1024
KEY = "01a21810dead4beef0123456789abcde"
Stored = Callable[[], list[str]]


@pytest.fixture(scope="module")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[FileSettings, Path]]:
    root = tmp_path_factory.mktemp("s3")
    async with in_own_task(s3_server(root)) as settings:
        yield settings, root


@pytest.fixture(scope="module")
async def bucket(s3: tuple[FileSettings, Path]) -> AsyncIterator[Storage]:
    """Opened once: it takes a second."""
    storage = S3Storage(s3[0])
    yield storage
    await storage.aclose()


@pytest.fixture(params=["local", "s3"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, s3: tuple[FileSettings, Path], bucket: Storage
) -> AsyncIterator[tuple[Storage, Path]]:
    root = tmp_path / "files"
    found = (LocalStorage(root), root) if request.param == "local" else (bucket, s3[1])
    yield found
    await found[0].delete(KEY)


@pytest.fixture
def storage(place: tuple[Storage, Path]) -> Storage:
    return place[0]


@pytest.fixture
def stored(place: tuple[Storage, Path]) -> Stored:
    """What lies in the directory, or in the one behind the server."""
    return lambda: [path.name for path in files_in(place[1])]


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def read(storage: Storage, start: int = 0, length: int | None = None) -> bytes:
    async with aclosing(await storage.open(KEY, start, length)) as reading:
        return b"".join([piece async for piece in reading])


@pytest.mark.parametrize(
    "given", [(), (b"",), (b"a",), (b"one", b"", b"two"), (b"x" * MIB, b"y")], ids=len
)
async def test_what_is_written_is_read(storage: Storage, given: tuple[bytes, ...]) -> None:
    await storage.write(KEY, pieces(*given))
    assert await read(storage) == b"".join(given)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 3, b"012"),
        (4, 2, b"45"),
        (8, None, b"89"),
        (9, 5, b"9"),
        (3, 0, b""),
        (0, 10, b"0123456789"),
    ],
)
async def test_a_part(storage: Storage, start: int, length: int | None, expected: bytes) -> None:
    await storage.write(KEY, pieces(b"0123456789"))
    assert await read(storage, start, length) == expected


async def test_what_is_not_there(storage: Storage) -> None:
    with pytest.raises(ContentMissingError):
        await storage.open(KEY)
    await storage.delete(KEY)


async def test_deleted_is_gone(storage: Storage, stored: Stored) -> None:
    await storage.write(KEY, pieces(b"a"))
    assert stored() == [KEY]
    await storage.delete(KEY)
    assert stored() == []
    with pytest.raises(ContentMissingError):
        await storage.open(KEY)


@pytest.mark.parametrize("size", [1, 20 * MIB])
async def test_a_write_that_breaks_leaves_nothing(
    storage: Storage, stored: Stored, size: int
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * size
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await storage.write(KEY, broken())
    with pytest.raises(ContentMissingError):
        await storage.open(KEY)
    await storage.delete(KEY)
    assert stored() == []


async def test_what_a_dead_process_left_behind_is_deleted(
    s3: tuple[FileSettings, Path], bucket: Storage, tmp_path: Path
) -> None:
    """Parts that nobody completes, and files with the name of those that are being written."""
    from sinas.storage.s3 import _connected

    where = {"Bucket": s3[0].s3_bucket, "Key": f"{s3[0].s3_prefix}{KEY}"}
    async with _connected(s3[0]) as client:
        upload = await client.create_multipart_upload(**where)
        named = {**where, "UploadId": upload["UploadId"]}
        await client.upload_part(**named, PartNumber=1, Body=b"x" * 5 * MIB)
        await bucket.delete(KEY)
        with pytest.raises(client.exceptions.NoSuchUpload):
            await client.list_parts(**named)
    local = LocalStorage(tmp_path)
    await local.write(KEY, pieces(b"x"))
    (path,) = files_in(tmp_path)
    path.rename(path.with_suffix(".part"))
    await local.delete(KEY)
    assert files_in(tmp_path) == []


async def test_leaving_early_closes_everything(storage: Storage) -> None:
    """An unclosed file or connection is a warning, which fails the test."""
    await storage.write(KEY, pieces(b"x" * 3 * MIB))
    reading = await storage.open(KEY)
    assert await anext(aiter(reading))
    await reading.aclose()
    unread = await storage.open(KEY)
    await unread.aclose()


async def test_large_contents_take_little_memory(storage: Storage) -> None:
    size, piece = 48 * MIB, b"0123456789abcdef" * 4096

    async def many() -> AsyncIterator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    await storage.write(KEY, pieces(b"warm"))
    await storage.delete(KEY)
    before = psutil.Process().memory_info().rss
    await storage.write(KEY, many())
    digest, most = hashlib.sha256(), 0
    async with aclosing(await storage.open(KEY)) as reading:
        async for part in reading:
            digest.update(part)
            most = max(most, psutil.Process().memory_info().rss - before)
    expected = hashlib.sha256()
    for _ in range(size // len(piece)):
        expected.update(piece)
    assert digest.hexdigest() == expected.hexdigest()
    assert most < 40 * MIB


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="does not work"):
        await LocalStorage(tmp_path / "file").write(KEY, pieces(b"x"))


async def test_a_server_that_is_not_there(s3: tuple[FileSettings, Path]) -> None:
    from tests.fixtures.configuration import free_port

    settings = s3[0].model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    storage = S3Storage(settings)
    try:
        with pytest.raises(StorageError, match="cannot be reached"):
            await storage.write(KEY, pieces(b"x"))
    finally:
        await storage.aclose()


async def test_a_server_that_refuses(s3: tuple[FileSettings, Path]) -> None:
    """Nothing of bucket, key or endpoint is told."""
    storage = S3Storage(s3[0].model_copy(update={"s3_access_key_id": "another"}))
    try:
        with pytest.raises(StorageError, match=r"refused \(\w+\)") as refused:
            await storage.open(KEY)
    finally:
        await storage.aclose()
    assert s3[0].s3_endpoint not in refused.value.message


@pytest.mark.parametrize("key", ["../x", "a/b", "", "..", "a.part"])
async def test_keys_are_no_paths(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        await LocalStorage(tmp_path).open(key)
