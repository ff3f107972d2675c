"""Indexing one file: reading it, cutting it, and asking a model what the pieces mean."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import func, update

from sinas.context import AppContext
from sinas.errors import SinasError
from sinas.models import FileIndex
from sinas.resources.files.index_rows import CLAIM, Claim, Outcome, claim, record
from sinas.resources.files.storage import Content
from sinas.search.chunking import Chunk, chunks_of
from sinas.search.documents import Document, DocumentError
from sinas.search.embedding.base import Embedder, Vector
from sinas.search.formats import Format, format_of
from sinas.search.reading import ReadingLimits, read

log = structlog.get_logger(__name__)

_RENEW_SECONDS: Final = 15


class Indexer:
    """Indexes one file at a time, as a worker.

    Args:
        context: For its settings, its embedder and short transactions: none is open while a
            document is read or a model asked.
        content: The bytes of a file's version.
    """

    def __init__(self, context: AppContext, content: Content) -> None:
        self._context = context
        self._content = content
        self._settings = context.settings.search

    async def run(self, file_id: UUID) -> None:
        """Index the file's current version, unless somebody else does or did."""
        async with self._context.unit() as unit:
            begun = await claim(unit.session, file_id)
        if begun is None:
            return
        async with self._renewing(begun):
            outcome = await self._outcome(begun)
        async with self._context.unit() as unit:
            await record(unit.session, self._settings, self._context.embedder, begun, outcome)

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
                    update(FileIndex).where(begun.holds()).values(due_at=func.now() + CLAIM)
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
        limits = ReadingLimits(
            max_chars=settings.max_text_chars,
            seconds=settings.read_seconds,
            memory_bytes=settings.read_memory_mb * 1024 * 1024,
        )
        async with aclosing(self._content(begun.file_id, begun.version)) as content:
            return await read(kind, _at_most(content, settings.max_file_mb * 1024 * 1024), limits)


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
