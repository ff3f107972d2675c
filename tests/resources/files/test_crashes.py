"""Whoever writes or removes files may die at any moment: rows and bytes agree after the sweep."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import func, select, update

from tests.factories.files import make_file
from tests.resources.files.conftest import MakeCollection
from tests.resources.files.dying import DIED, PIECE, PIECES, Order

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

_ROOT = Path(__file__).parents[3]
OLD = b"what was there before"
NEW = PIECE * PIECES
_MOST_STEPS = 200

Die = Callable[..., Any]


@pytest.fixture(scope="module")
async def forker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    log = tmp_path_factory.mktemp("dying") / "log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.resources.files.dying"),
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        )
    yield process, log
    process.kill()
    await process.wait()


@pytest.fixture
async def die(context: AppContext, as_: SignIn, forker: Any) -> Die:
    """`await die("create", 7)`: True if it died before step 7, False if it was done before."""
    process, log = forker
    user = await as_.user("user")

    async def run(what: Any, at: int) -> bool:
        order = Order(
            database_url=context.settings.database.url,
            redis_url=context.settings.redis.url,
            data_dir=str(context.settings.core.data_dir),
            user_id=str(user.id),
            what=what,
            die_at=at,
        )
        process.stdin.write(orjson.dumps(asdict(order)) + b"\n")
        code = int(await process.stdout.readline())
        assert code in (0, DIED), log.read_text()
        return code == DIED

    return run


async def age(context: AppContext) -> None:
    """As if nobody had said for long that he is alive."""
    from sinas.models import Blob

    async with context.unit() as unit:
        await unit.session.execute(
            update(Blob)
            .where(Blob.due_at.is_not(None))
            .values(due_at=func.now() - timedelta(seconds=1))
        )


async def assert_agreed(context: AppContext, on_disk: Callable[[], list[str]]) -> dict[str, bytes]:
    """Every row has its bytes, all bytes have a row, and the sums are right: what there is."""
    from sinas.models import Blob, Collection, File, FileVersion
    from sinas.resources.files.storage import content_of

    async with context.statement_unit() as unit:
        blobs = (await unit.session.scalars(select(Blob.id))).all()
        held = (await unit.session.scalars(select(FileVersion.blob_id))).all()
        total = await unit.session.scalar(select(func.sum(FileVersion.size_bytes)))
        counted = await unit.session.scalar(select(func.sum(Collection.stored_bytes)))
        rows = await unit.session.execute(
            select(File.id, File.name, FileVersion.version_number, FileVersion.hash_sha256)
            .join(FileVersion, FileVersion.file_id == File.id)
            .order_by(FileVersion.version_number)
        )
        versions = rows.all()
    assert on_disk() == sorted(key.hex for key in blobs)
    assert sorted(blobs) == sorted(held)
    assert (total or 0) == counted
    found = {}
    for file_id, name, number, sha256 in versions:
        content = b"".join([p async for p in content_of(context)(file_id, number)])
        assert hashlib.sha256(content).hexdigest() == sha256
        found[name] = content
    return found


@pytest.fixture
async def old(context: AppContext, as_: SignIn, collection: MakeCollection) -> None:
    from sinas.models import FileVisibility

    await make_file(
        context,
        await collection(),
        await as_.user("user"),
        "old.bin",
        OLD,
        visibility=FileVisibility.SHARED,
    )


@pytest.mark.parametrize("what", ["create", "update", "refused", "delete"])
async def test_at_every_step(
    context: AppContext,
    on_disk: Callable[[], list[str]],
    old: None,
    die: Die,
    what: str,
) -> None:
    from sinas.resources.files.blobs import sweep

    before = {"old.bin": OLD}
    after = {
        "create": before | {"new.bin": NEW},
        "update": {"old.bin": NEW},
        "refused": before,
        "delete": {},
    }[what]
    seen: list[dict[str, bytes]] = []
    died = True
    # Some of the steps each time, others the next time.
    stride = 2 if what == "create" else 4
    for at in range(random.randint(1, stride), _MOST_STEPS, stride):
        died = await die(what, at)
        await age(context)
        await sweep(context)
        found = await assert_agreed(context, on_disk)
        assert found in (before, after)
        seen.append(found)
        if not died or (what == "delete" and found == after):
            break
    assert not died or what == "delete"
    # Both came to be: the deaths were before as well as after what counts.
    assert seen[0] == before
    assert seen[-1] == after
    assert len(seen) > 10 / stride


async def test_a_sweep_that_dies_is_followed_by_another(
    context: AppContext,
    as_: SignIn,
    on_disk: Callable[[], list[str]],
    old: None,
    die: Die,
) -> None:
    from sinas.resources.files.blobs import sweep
    from sinas.resources.files.service import FileService

    user = await as_.user("user")
    principal = await context.authenticator.by_user(user.id)
    await FileService(context, principal).delete("docs", "notes", "old.bin")
    assert len(on_disk()) == 1
    at = 1
    while await die("sweep", at):
        at += 1
        await age(context)
    assert at > 5
    await age(context)
    await sweep(context)
    assert await assert_agreed(context, on_disk) == {}


async def test_an_upload_that_goes_on_is_left_alone(
    context: AppContext, as_: SignIn, on_disk: Callable[[], list[str]], collection: MakeCollection
) -> None:
    """However long it takes: it says that it is alive. One that was thought dead ends."""
    from sinas.errors import UnavailableError
    from sinas.resources.files.blobs import drafting, sweep
    from sinas.resources.files.uploads import FileUploads, NewContent
    from sinas.storage.base import StorageError

    await collection()
    user = await as_.user("user")
    uploads = FileUploads(context, await context.authenticator.by_user(user.id))
    place = await uploads.open("docs", "notes")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await sweep(context)
        yield b"two"

    new = NewContent(name="a", content_type="a/b")
    async with drafting(context) as draft:
        written = await uploads.write(draft, place, pieces())
        await age(context)
        await draft._renew()
        await sweep(context)
        await uploads.store(draft, place, written, new)
    assert (await assert_agreed(context, on_disk)) == {"a": b"onetwo"}

    async def swept_meanwhile() -> None:
        async with drafting(context) as draft:
            written = await uploads.write(draft, place, pieces())
            await age(context)
            await sweep(context)
            await uploads.store(draft, place, written, new)

    async def stopped_meanwhile() -> None:
        async with drafting(context) as draft:

            async def slow() -> AsyncIterator[bytes]:
                yield b"one"
                draft._renewed -= 1000
                yield b"two"

            await uploads.write(draft, place, slow())

    with pytest.raises(UnavailableError, match="interrupted for too long"):
        await swept_meanwhile()
    with pytest.raises(StorageError, match="interrupted for too long"):
        await stopped_meanwhile()
    assert (await assert_agreed(context, on_disk)) == {"a": b"onetwo"}
