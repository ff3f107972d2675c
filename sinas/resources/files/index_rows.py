"""Rows of the index: which files are due, who works on them, and what came of it.

A file's row in `file_indexes` is the outbox. It is due from the transaction that makes a version,
and until a worker has written that version's text and chunks: the job that does it may be lost or
run twice, and a sweep finds what is due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, String, and_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import Collection, File, FileChunk, FileIndex, IndexStatus
from sinas.search.chunking import Chunk
from sinas.search.documents import Document
from sinas.search.embedding.base import Embedder, Vector
from sinas.settings import SearchSettings

# Raised when the readers or the chunks change so that what they made should be made anew.
_READERS: Final = 2
CLAIM: Final = timedelta(seconds=60)
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(hours=1)
MOST_ATTEMPTS: Final = 12


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


async def claim(session: AsyncSession, file_id: UUID) -> Claim | None:
    """Begin with a file that is due; None when it is not, or gone."""
    statement = (
        update(FileIndex)
        .where(
            FileIndex.file_id == file_id,
            FileIndex.due_at <= func.now(),
            File.id == FileIndex.file_id,
            File.current_version == FileIndex.version,
        )
        .values(attempts=FileIndex.attempts + 1, due_at=func.now() + CLAIM)
        .returning(
            FileIndex.version,
            FileIndex.attempts,
            File.collection_id,
            File.name,
            File.content_type,
        )
        .execution_options(synchronize_session=False)
    )
    row = (await session.execute(statement)).first()
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
        .where(FileIndex.due_at <= func.now(), FileIndex.attempts >= MOST_ATTEMPTS)
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


async def record(
    session: AsyncSession,
    settings: SearchSettings,
    embedder: Embedder | None,
    begun: Claim,
    outcome: Outcome,
) -> None:
    """Replace the file's text and chunks, unless another attempt began meanwhile."""
    if not await _is_ours(session, begun):
        return
    await session.execute(delete(FileChunk).where(FileChunk.file_id == begun.file_id))
    if outcome.chunks:
        await session.execute(insert(FileChunk), _chunk_rows(settings, embedder, begun, outcome))
    await session.execute(
        update(FileIndex).where(begun.holds()).values(_state(settings, embedder, begun, outcome))
    )


def _chunk_rows(
    settings: SearchSettings, embedder: Embedder | None, begun: Claim, outcome: Outcome
) -> list[dict[str, Any]]:
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
            "language": settings.language,
            "model": model,
            "embedding": vector,
        }
        for number, (chunk, vector) in enumerate(zip(outcome.chunks, vectors, strict=True))
    ]


def _state(
    settings: SearchSettings, embedder: Embedder | None, begun: Claim, outcome: Outcome
) -> dict[str, Any]:
    document = outcome.document
    state: dict[str, Any] = {
        "signature": signature(settings, embedder),
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
    goes_on = begun.attempt < MOST_ATTEMPTS
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
