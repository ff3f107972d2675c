"""The index of files: who is due, and what one file's text and chunks become.

A file's row in `file_indexes` is the outbox. It is due from the transaction that makes a version,
and until a worker has written that version's text and chunks: the job that does it may be lost or
run twice, and a sweep finds what is due.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, String, and_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import SinasError
from sinas.models import Collection, File, FileChunk, FileIndex, IndexStatus
from sinas.search.chunking import Chunk, chunks_of
from sinas.search.documents import Document, DocumentError
from sinas.search.embedding.base import Embedder, Vector
from sinas.search.formats import Format, format_of
from sinas.search.reading import ReadingLimits, read
from sinas.settings import SearchSettings

log = structlog.get_logger(__name__)

# Raised when the readers or the chunks change so that what they made should be made anew.
_READERS: Final = 1
_CLAIM: Final = timedelta(seconds=60)
_RENEW_SECONDS: Final = 15
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_MOST_ATTEMPTS: Final = 12


def signature(settings: SearchSettings, embedder: Embedder | None) -> str:
    """What an index is made with: when it changes, indexes are made anew."""
    model = "none" if embedder is None else f"{embedder.model}:{embedder.dimensions}"
    return f"{_READERS}:{settings.language}:{model}"


async def make_due(session: AsyncSession, file_id: UUID) -> None:
    """Have the current version of a file indexed; what was of another one is found no more.

    In the transaction that makes the version, after its row is flushed.
    """
    current = select(
        File.id,
        File.current_version,
        literal("", String),
        literal(IndexStatus.PENDING.value, String),
        func.now(),
    ).where(File.id == file_id)
    row = insert(FileIndex).from_select(
        ["file_id", "version", "signature", "status", "due_at"], current, include_defaults=False
    )
    await session.execute(
        row.on_conflict_do_update(
            index_elements=["file_id"],
            set_={
                "version": row.excluded.version,
                "signature": "",
                "status": IndexStatus.PENDING,
                "error": None,
                "attempts": 0,
                "due_at": row.excluded.due_at,
                "text": None,
                "char_count": 0,
                "is_file_text": False,
                "is_whole": True,
                "chunk_count": 0,
                "indexed_at": None,
            },
        )
    )
    # After the row, which whoever writes chunks holds: they are there now, or will never be.
    await session.execute(delete(FileChunk).where(FileChunk.file_id == file_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One attempt at one version. Whoever has a later one wins."""

    file_id: UUID
    version: int
    attempt: int
    collection_id: UUID
    name: str
    content_type: str

    def holds(self) -> ColumnElement[bool]:
        """SQL: nobody began anew since."""
        return and_(
            FileIndex.file_id == self.file_id,
            FileIndex.version == self.version,
            FileIndex.attempts == self.attempt,
        )


async def claim(unit: Unit, file_id: UUID) -> Claim | None:
    """Begin with a file that is due; None when it is not, or gone."""
    statement = (
        update(FileIndex)
        .where(
            FileIndex.file_id == file_id,
            FileIndex.due_at <= func.now(),
            File.id == FileIndex.file_id,
            File.current_version == FileIndex.version,
        )
        .values(attempts=FileIndex.attempts + 1, due_at=func.now() + _CLAIM)
        .returning(
            FileIndex.version,
            FileIndex.attempts,
            File.collection_id,
            File.name,
            File.content_type,
        )
        .execution_options(synchronize_session=False)
    )
    row = (await unit.session.execute(statement)).first()
    if row is None:
        return None
    version, attempt, collection_id, name, content_type = row
    return Claim(
        file_id=file_id,
        version=version,
        attempt=attempt,
        collection_id=collection_id,
        name=name,
        content_type=content_type,
    )


async def give_up(session: AsyncSession) -> None:
    """End what was begun again and again and ended the worker each time."""
    await session.execute(
        update(FileIndex)
        .where(FileIndex.due_at <= func.now(), FileIndex.attempts >= _MOST_ATTEMPTS)
        .values(
            status=IndexStatus.FAILED,
            due_at=None,
            error=func.coalesce(FileIndex.error, "Each attempt at indexing it was interrupted."),
        )
        .execution_options(synchronize_session=False)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt came to.

    Attributes:
        error: Why there is no text, or no meaning.
        is_final: Whether another attempt would come to the same.
        vectors: One for each chunk, or none at all.
    """

    document: Document | None = None
    is_file_text: bool = False
    chunks: Sequence[Chunk] = ()
    vectors: Sequence[Vector] = ()
    error: str | None = None
    is_final: bool = True


class Indexer:
    """Indexes one file at a time, as a worker.

    Args:
        context: For its settings, its embedder and short transactions: none is open while a
            document is read or a model asked.
        content: The bytes of a file's version.
    """

    def __init__(
        self, context: AppContext, content: Callable[[UUID, int], AsyncIterator[bytes]]
    ) -> None:
        self._context = context
        self._content = content
        self._settings = context.settings.search

    async def run(self, file_id: UUID) -> None:
        """Index the file's current version, unless somebody else does or did."""
        async with self._context.unit() as unit:
            begun = await claim(unit, file_id)
        if begun is None:
            return
        async with self._renewing(begun):
            outcome = await self._outcome(begun)
        async with self._context.unit() as unit:
            await self._record(unit, begun, outcome)

    @asynccontextmanager
    async def _renewing(self, begun: Claim) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._renew(begun))
            try:
                yield
            finally:
                task.cancel()

    async def _renew(self, begun: Claim) -> None:
        """Tell the sweep that this one is alive."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            async with self._context.statement_unit() as unit:
                await unit.session.execute(
                    update(FileIndex).where(begun.holds()).values(due_at=func.now() + _CLAIM)
                )

    async def _outcome(self, begun: Claim) -> Outcome:
        kind = format_of(begun.content_type, begun.name)
        if kind is None:
            return Outcome(error="Files of this type have no text.")
        try:
            document = await self._read(begun, kind)
        except DocumentError as error:
            return Outcome(error=str(error))
        except (SinasError, OSError) as error:
            log.warning("files.index_failed", file_id=str(begun.file_id), error=str(error))
            return Outcome(error="The file cannot be read from the storage.", is_final=False)
        # Some hundred thousand steps: not between the turns of the event loop.
        chunks = await asyncio.to_thread(chunks_of, document)
        found = Outcome(document=document, is_file_text=kind.is_text, chunks=chunks)
        embedder = self._context.embedder
        if embedder is None:
            return found
        try:
            return replace(found, vectors=await _embedded(embedder, chunks))
        except SinasError as error:
            log.warning("files.embed_failed", file_id=str(begun.file_id), error=error.message)
            return replace(found, error=error.message, is_final=False)

    async def _read(self, begun: Claim, kind: Format) -> Document:
        settings = self._settings
        content = _at_most(
            self._content(begun.file_id, begun.version), settings.max_file_mb * 1024 * 1024
        )
        limits = ReadingLimits(
            max_chars=settings.max_text_chars,
            seconds=settings.read_seconds,
            memory_bytes=settings.read_memory_mb * 1024 * 1024,
        )
        return await read(kind, content, limits)

    async def _record(self, unit: Unit, begun: Claim, outcome: Outcome) -> None:
        """Replace the file's text and chunks, unless another attempt began meanwhile."""
        if not await _is_ours(unit.session, begun):
            return
        await unit.session.execute(delete(FileChunk).where(FileChunk.file_id == begun.file_id))
        if outcome.chunks:
            await unit.session.execute(insert(FileChunk), self._rows(begun, outcome))
        await unit.session.execute(
            update(FileIndex).where(begun.holds()).values(self._state(begun, outcome))
        )

    def _rows(self, begun: Claim, outcome: Outcome) -> list[dict[str, Any]]:
        embedder = self._context.embedder
        model = embedder.model if embedder is not None and outcome.vectors else None
        vectors: Sequence[Vector | None] = outcome.vectors or [None] * len(outcome.chunks)
        return [
            {
                "file_id": begun.file_id,
                "number": number,
                "collection_id": begun.collection_id,
                "headings": chunk.headings,
                "content": chunk.text,
                "page": chunk.page,
                "start": chunk.start,
                "end": chunk.end,
                "first_line": chunk.first_line,
                "last_line": chunk.last_line,
                "language": self._settings.language,
                "model": model,
                "embedding": vector,
            }
            for number, (chunk, vector) in enumerate(zip(outcome.chunks, vectors, strict=True))
        ]

    def _state(self, begun: Claim, outcome: Outcome) -> dict[str, Any]:
        document = outcome.document
        state: dict[str, Any] = {
            "signature": signature(self._settings, self._context.embedder),
            "error": outcome.error,
            "text": None if document is None else document.text,
            "char_count": 0 if document is None else len(document.text),
            "is_file_text": outcome.is_file_text,
            "is_whole": document is None or document.is_whole,
            "chunk_count": len(outcome.chunks),
            "indexed_at": func.now(),
        }
        if outcome.error is None:
            return state | {"status": IndexStatus.INDEXED, "attempts": 0, "due_at": None}
        if outcome.is_final:
            return state | {"status": IndexStatus.SKIPPED, "attempts": 0, "due_at": None}
        pause = min(_FIRST_PAUSE * 2 ** (begun.attempt - 1), _LONGEST_PAUSE)
        goes_on = begun.attempt < _MOST_ATTEMPTS
        return state | {
            "status": IndexStatus.FAILED,
            "due_at": func.now() + pause if goes_on else None,
        }


async def _is_ours(session: AsyncSession, begun: Claim) -> bool:
    """Lock what the new chunks hang on, in the order in which deleting it does; True if it is."""
    collection = select(Collection.id).where(Collection.id == begun.collection_id)
    file = select(File.id).where(File.id == begun.file_id, File.current_version == begun.version)
    return (
        await session.scalar(collection.with_for_update(read=True, key_share=True)) is not None
        and await session.scalar(file.with_for_update(read=True, key_share=True)) is not None
        and await session.scalar(select(FileIndex.file_id).where(begun.holds()).with_for_update())
        is not None
    )


async def _embedded(embedder: Embedder, chunks: Sequence[Chunk]) -> list[Vector]:
    vectors: list[Vector] = []
    for start in range(0, len(chunks), embedder.batch):
        batch = chunks[start : start + embedder.batch]
        vectors += await embedder.embed([chunk.with_headings for chunk in batch])
    return vectors


async def _at_most(content: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The bytes, unless there are more.

    Raises:
        DocumentError: There are.
    """
    size = 0
    async for piece in content:
        size += len(piece)
        if size > most:
            raise DocumentError(f"It has more than {most // 1024 // 1024} MB (SEARCH_MAX_FILE_MB).")
        yield piece
