"""The index of a file: from its upload to its end, with everything that can go wrong."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, update

from sinas.context import AppContext
from sinas.errors import UnavailableError
from sinas.models import File, FileChunk, FileIndex, IndexStatus
from sinas.resources.files import index_rows
from sinas.resources.files.index_jobs import sweep_due, sweep_outdated
from sinas.resources.files.indexing import Indexer
from sinas.resources.files.storage import content_of
from sinas.search.embedding.base import Embedder, Vector
from sinas.worker import RunningWorker
from tests.fixtures.client import SignIn
from tests.resources.files.search.world import SearchWorld, names
from tests.search import documents as made


class Counting:
    """An embedder that says how often it was asked, and fails when told to."""

    model = "counting"
    dimensions = 384
    batch = 16

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.asked += 1
        if self.is_down:
            raise UnavailableError("The model sleeps.")
        return [[1.0] + [0.0] * 383 for _ in texts]

    async def aclose(self) -> None: ...


@contextmanager
def embedding_with(context: AppContext, embedder: Embedder | None):
    before = context.embedder
    object.__setattr__(context, "embedder", embedder)
    try:
        yield
    finally:
        object.__setattr__(context, "embedder", before)


@pytest.fixture
def counting(context: AppContext):
    embedder = Counting()
    with embedding_with(context, embedder):
        yield embedder


async def index_of(context: AppContext, file_id: UUID) -> FileIndex:
    async with context.unit() as unit:
        row = await unit.session.get_one(FileIndex, file_id)
        await unit.session.refresh(row, ["text", "status", "due_at", "attempts", "error"])
        return row


async def chunk_count(context: AppContext, file_id: UUID) -> int:
    async with context.unit() as unit:
        statement = select(func.count()).where(FileChunk.file_id == file_id)
        return (await unit.session.scalars(statement)).one()


async def age(context: AppContext, file_id: UUID, **values: object) -> None:
    async with context.unit() as unit:
        values = {"due_at": func.now() - timedelta(seconds=1), **values}
        await unit.session.execute(
            update(FileIndex).where(FileIndex.file_id == file_id).values(values)
        )


async def queued(context: AppContext) -> set[str]:
    keys = await context.redis.keys("arq:job:files.index:*")
    return {key.decode().removeprefix("arq:job:files.index:") for key in keys}


async def test_what_is_kept(world: SearchWorld, as_: SignIn, context: AppContext) -> None:
    user = await as_.user("user")
    file_id = await world.upload(user, "a.md", "# One\n\ntext\n", indexed=False)
    row = await index_of(context, file_id)
    assert (row.status, row.version, row.text) == (IndexStatus.PENDING, 1, None)
    assert str(file_id) in await queued(context)
    await world.index(file_id)
    row = await index_of(context, file_id)
    assert (row.status, row.due_at, row.attempts) == (IndexStatus.INDEXED, None, 0)
    assert (row.text, row.is_file_text, row.is_whole) == ("# One\n\ntext\n", True, True)
    async with context.unit() as unit:
        chunk = (await unit.session.scalars(select(FileChunk))).one()
    assert (chunk.headings, chunk.content) == ("One", "# One\n\ntext")
    assert (chunk.first_line, chunk.last_line, chunk.start, chunk.end) == (1, 3, 0, 11)
    assert chunk.collection_id == world.collection_id


async def test_once_is_enough(
    world: SearchWorld, as_: SignIn, context: AppContext, counting: Counting
) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "text")
    for _ in range(3):
        await world.index(file_id)
    assert counting.asked == 1
    assert await chunk_count(context, file_id) == 1


async def test_only_the_current_version_is_found(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    user, client = await as_.user("user"), await as_("user")
    file_id = await world.upload(user, "a.txt", "old words")
    await world.replace(file_id, "new content", indexed=False)
    for mode in ("regex", "text", "semantic"):
        assert await names(client, query="old words", mode=mode) == []
    await world.index(file_id)
    assert await names(client, query="content", mode="text") == ["a.txt"]
    assert await names(client, query="old", mode="text") == []
    assert (await index_of(context, file_id)).version == 2


async def test_a_version_that_comes_meanwhile_wins(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "old words", indexed=False)

    async def content(_: UUID, version: int) -> AsyncGenerator[bytes, None]:
        yield f"words of version {version}".encode()
        if version == 1:
            await world.replace(file_id, "new content", indexed=False)
            await Indexer(context, content).run(file_id)

    await Indexer(context, content).run(file_id)
    row = await index_of(context, file_id)
    assert (row.version, row.text, row.status) == (2, "words of version 2", IndexStatus.INDEXED)
    assert await chunk_count(context, file_id) == 1


async def test_a_file_that_goes_meanwhile(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "words", indexed=False)

    async def content(_: UUID, __: int) -> AsyncGenerator[bytes, None]:
        yield b"words"
        async with context.unit() as unit:
            await unit.session.execute(delete(File).where(File.id == file_id))

    await Indexer(context, content).run(file_id)
    assert await chunk_count(context, file_id) == 0
    await Indexer(context, content).run(file_id)


async def test_who_is_thought_dead_writes_nothing(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "words", indexed=False)

    async def slow(_: UUID, __: int) -> AsyncGenerator[bytes, None]:
        yield b"of the slow one"
        await age(context, file_id)
        await world.index(file_id)

    await Indexer(context, slow).run(file_id)
    assert (await index_of(context, file_id)).text == "words"


async def test_deleting_the_file_deletes_all(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "words")
    await world.delete(file_id)
    assert await chunk_count(context, file_id) == 0
    async with context.unit() as unit:
        assert await unit.session.get(FileIndex, file_id) is None


@pytest.mark.parametrize(
    ("name", "content_type", "data", "error"),
    [
        ("a.png", "image/png", b"\x89PNG", "no text"),
        ("a.txt", "text/plain", b"\xff\xfe\x00", "not UTF-8"),
        ("a.pdf", "application/pdf", b"%PDF-1.4 nothing", "no PDF"),
        ("a.docx", "application/octet-stream", made.zipped({"a": b"b"}), "docx"),
    ],
)
async def test_what_cannot_be_read_is_skipped_and_said(
    world: SearchWorld, as_: SignIn, context: AppContext,
    name: str, content_type: str, data: bytes, error: str,
) -> None:  # fmt: skip
    user = await as_.user("user")
    file_id = await world.upload(user, name, data, content_type=content_type)
    row = await index_of(context, file_id)
    assert (row.status, row.due_at) == (IndexStatus.SKIPPED, None)
    answer = await (await as_("user")).get(f"/files/docs/handbook/{name}/index")
    assert answer.status_code == 200
    told = answer.json()
    assert error in told.pop("error")
    assert told.pop("indexed_at") is not None
    assert told == {"status": "skipped", "version": 1, "is_whole": True, "chunk_count": 0}


async def test_a_file_that_is_too_large(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    data = b"x" * (1024 * 1024 + 1)
    file_id = await world.upload(await as_.user("user"), "a.txt", data, indexed=False)
    indexer = Indexer(context, content_of(context))
    indexer._settings = context.settings.search.model_copy(update={"max_file_mb": 1})
    await indexer.run(file_id)
    row = await index_of(context, file_id)
    assert (row.status, row.text) == (IndexStatus.SKIPPED, None)
    assert "SEARCH_MAX_FILE_MB" in (row.error or "")


async def test_the_index_of_others_private_files_is_not_told(
    world: SearchWorld, as_: SignIn
) -> None:
    await world.upload(await as_.user("other"), "a.txt", "words", visibility="private")
    for path in ("docs/handbook/a.txt", "docs/handbook/none.txt", "docs/none/a.txt"):
        assert (await (await as_("user")).get(f"/files/{path}/index")).status_code == 404


async def test_a_model_that_is_down_hides_nothing_from_the_other_modes(
    world: SearchWorld, as_: SignIn, context: AppContext, counting: Counting
) -> None:
    counting.is_down = True
    client = await as_("user")
    file_id = await world.upload(await as_.user("user"), "a.txt", "some words")
    row = await index_of(context, file_id)
    assert (row.status, row.error, row.attempts) == (IndexStatus.FAILED, "The model sleeps.", 1)
    assert row.due_at is not None
    for mode in ("regex", "text"):
        assert await names(client, query="words", mode=mode) == ["a.txt"]
    await world.index(file_id)  # too early
    assert counting.asked == 1
    counting.is_down = False
    assert await names(client, query="words", mode="semantic") == []
    await age(context, file_id)
    await world.index(file_id)
    assert (await index_of(context, file_id)).status == IndexStatus.INDEXED
    assert await names(client, query="words", mode="semantic") == ["a.txt"]


async def test_a_storage_that_is_down(world: SearchWorld, as_: SignIn, context: AppContext) -> None:
    file_id = await world.upload(await as_.user("user"), "a.txt", "words", indexed=False)

    async def broken(_: UUID, __: int) -> AsyncGenerator[bytes, None]:
        for piece in (b"wo", b"rds"):
            yield piece
            raise OSError("/secret/path is gone")

    await Indexer(context, broken).run(file_id)
    row = await index_of(context, file_id)
    assert row.status == IndexStatus.FAILED
    assert "/secret" not in (row.error or "")


class TestSweeps:
    async def test_a_lost_job(self, world: SearchWorld, as_: SignIn, context: AppContext) -> None:
        user = await as_.user("user")
        lost = await world.upload(user, "a.txt", "words", indexed=False)
        done = await world.upload(user, "b.txt", "words")
        await context.redis.flushdb()
        await sweep_due(context)
        assert await queued(context) == {str(lost)}
        assert str(done) not in await queued(context)

    async def test_what_ends_each_worker_is_given_up(
        self, world: SearchWorld, as_: SignIn, context: AppContext
    ) -> None:
        file_id = await world.upload(await as_.user("user"), "a.txt", "words", indexed=False)
        await age(context, file_id, attempts=index_rows.MOST_ATTEMPTS)
        await sweep_due(context)
        row = await index_of(context, file_id)
        assert (row.status, row.due_at) == (IndexStatus.FAILED, None)

    async def test_another_model(
        self, world: SearchWorld, as_: SignIn, context: AppContext
    ) -> None:
        client = await as_("user")
        file_id = await world.upload(await as_.user("user"), "a.txt", "some words")
        with embedding_with(context, Counting()):
            await sweep_outdated(context)
            # Vectors of two models are never compared.
            assert await names(client, query="words", mode="semantic") == []
            assert await names(client, query="words", mode="text") == ["a.txt"]
            await world.index(file_id)
            assert await names(client, query="words", mode="semantic") == ["a.txt"]
            await sweep_outdated(context)
            assert (await index_of(context, file_id)).due_at is None

    async def test_files_from_before_there_was_an_index(
        self, world: SearchWorld, as_: SignIn, context: AppContext
    ) -> None:
        file_id = await world.upload(await as_.user("user"), "a.txt", "words")
        async with context.unit() as unit:
            await unit.session.execute(delete(FileIndex))
        await sweep_outdated(context)
        assert (await index_of(context, file_id)).status == IndexStatus.PENDING


async def test_a_worker_does_it_by_itself(
    world: SearchWorld, as_: SignIn, context: AppContext, function_worker: RunningWorker
) -> None:
    client = await as_("user")
    await world.upload(await as_.user("user"), "a.txt", "words", indexed=False)
    while not await names(client, query="words", mode="text"):
        await asyncio.sleep(0.02)
    told = (await client.get("/files/docs/handbook/a.txt/index")).json()
    assert (told["status"], told["chunk_count"], told["error"]) == ("indexed", 1, None)


async def test_deleting_and_indexing_do_not_wait_for_each_other(
    world: SearchWorld, as_: SignIn, context: AppContext
) -> None:
    """Either may be first; a deadlock would fail one of them."""
    user = await as_.user("user")
    for number in range(8):
        file_id = await world.upload(user, f"{number}.txt", "words", indexed=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.index(file_id))
            await asyncio.sleep(0.005 * number)
            group.create_task(world.delete(file_id))
        assert await chunk_count(context, file_id) == 0
