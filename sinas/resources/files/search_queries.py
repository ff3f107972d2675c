"""The statements of search: each finds only what its caller may see, before it ranks or cuts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, select, text, true, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import UserDefinedType
from typing_extensions import override

from sinas.db.types import vector_text
from sinas.models import File, FileChunk, FileIndex
from sinas.search.embedding.base import Embedder, Vector

# Up to so many visible chunks are compared one by one: exact, and as fast as an index that would
# have to skip what the caller may not see.
_EXACT_UP_TO: Final = 10_000
_CHUNKS_A_FILE: Final = 4
_MOST_CHUNKS: Final = 1000
_EF_SEARCH: Final = 400
_FILES_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where to search: a collection's files that the caller may see, and that pass the filter."""

    collection_id: UUID
    visible: ColumnElement[bool]
    metadata_filter: dict[str, Any]

    def files(self) -> ColumnElement[bool]:
        """SQL: those files."""
        conditions = [File.collection_id == self.collection_id, self.visible]
        if self.metadata_filter:
            conditions.append(File.file_metadata.contains(self.metadata_filter))
        return and_(*conditions)


async def limit_time(session: AsyncSession, seconds: float) -> None:
    """Make each statement of this transaction fail that takes longer."""
    await session.execute(
        text("SELECT set_config('statement_timeout', :most, true)"),
        {"most": str(max(1, int(seconds * 1000)))},
    )


def found_files(scope: Scope, limit: int) -> Select[UUID, str, int]:
    """Files by name."""
    return (
        select(File.id, File.name, File.current_version)
        .where(scope.files())
        .order_by(File.name, File.id)
        .limit(limit)
    )


def named(words: Sequence[str]) -> ColumnElement[bool]:
    """SQL: files whose names have all the words, whatever the case."""
    return and_(true(), *(File.name.icontains(word, autoescape=True) for word in words))


def next_files(scope: Scope, after: tuple[str, UUID] | None) -> Select[*tuple[Any, ...]]:
    """The next files by name, with the length of the text that the index has; 0 for none yet."""
    is_current = and_(FileIndex.file_id == File.id, FileIndex.version == File.current_version)
    statement = (
        select(
            File.id,
            File.name,
            File.current_version,
            File.content_type,
            FileIndex.status,
            func.coalesce(FileIndex.char_count, 0).label("char_count"),
        )
        .outerjoin(FileIndex, is_current)
        .where(scope.files())
        .order_by(File.name, File.id)
        .limit(_FILES_AT_ONCE)
    )
    if after is not None:
        statement = statement.where(tuple_(File.name, File.id) > tuple_(*after))
    return statement


async def texts_of(session: AsyncSession, files: Sequence[Row[Any]]) -> dict[UUID, str]:
    """The texts that the index has of them, of these versions."""
    versions = {row.id: row.current_version for row in files if row.char_count}
    if not versions:
        return {}
    statement = select(FileIndex.file_id, FileIndex.version, FileIndex.text).where(
        FileIndex.file_id.in_(versions)
    )
    rows = (await session.execute(statement)).all()
    return {
        file_id: content
        for file_id, version, content in rows
        if content is not None and versions[file_id] == version
    }


async def by_words(
    session: AsyncSession, scope: Scope, query: str, language: str, limit: int
) -> Sequence[Row[Any]]:
    """Chunks that have the words, in the forms of the language or as they are; the best first."""
    plain = func.websearch_to_tsquery(sql_cast("simple", REGCONFIG), query)
    wanted = plain.op("||")(func.websearch_to_tsquery(sql_cast(language, REGCONFIG), query))
    rank = func.ts_rank_cd(FileChunk.words, wanted)
    statement = (
        _chunks(scope, rank)
        .where(FileChunk.words.op("@@")(wanted))
        .order_by(rank.desc(), FileChunk.file_id, FileChunk.number)
        .limit(_most(limit))
    )
    return (await session.execute(statement)).all()


async def by_meaning(
    session: AsyncSession, scope: Scope, vector: Vector, embedder: Embedder, limit: int
) -> Sequence[Row[Any]]:
    """Chunks nearest in meaning, the nearest first.

    Where many are visible, those of an approximate index, which goes on until it has found enough
    that are visible.
    """
    is_exact = await _visible_chunks(session, scope) <= _EXACT_UP_TO
    if not is_exact:
        await session.execute(
            text(
                "SELECT set_config('hnsw.ef_search', :ef, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true)"
            ),
            {"ef": str(max(_EF_SEARCH, min(_most(limit), 1000)))},
        )
    statement = nearest(scope, vector, embedder, limit, is_exact=is_exact)
    rows = (await session.execute(statement)).all()
    return sorted(rows, key=lambda row: -row.score)


def nearest(
    scope: Scope, vector: Vector, embedder: Embedder, limit: int, *, is_exact: bool
) -> Select[*tuple[Any, ...]]:
    """The statement of `by_meaning`: by comparing every chunk, or as the index can answer it."""
    size = embedder.dimensions
    wanted = literal(vector_text(vector), _Halfvec(size))
    # Only with the cast is it the index's expression.
    column: Any = FileChunk.embedding if is_exact else sql_cast(FileChunk.embedding, _Halfvec(size))
    distance = column.op("<#>")(wanted)
    return (
        _chunks(scope, -distance)
        .where(
            FileChunk.model == embedder.model,
            # The index's condition, in as many words.
            text(f"vector_dims(file_chunks.embedding) = {int(size)}"),
        )
        .order_by(distance)
        .limit(_most(limit))
    )


async def _visible_chunks(session: AsyncSession, scope: Scope) -> int:
    """How many there are; of more than `_EXACT_UP_TO` files, only that it is more."""
    some = (
        select(FileIndex.chunk_count)
        .join(File, File.id == FileIndex.file_id)
        .where(scope.files(), FileIndex.chunk_count > 0)
        .limit(_EXACT_UP_TO + 1)
        .subquery()
    )
    return await session.scalar(select(func.coalesce(func.sum(some.c.chunk_count), 0))) or 0


def _chunks(scope: Scope, score: ColumnElement[Any] | None = None) -> Select[*tuple[Any, ...]]:
    """Chunks of current versions in the scope."""
    score = literal(None) if score is None else score
    return (
        select(
            File.id,
            File.name,
            File.current_version,
            FileChunk.content,
            FileChunk.headings,
            FileChunk.page,
            FileChunk.first_line,
            FileChunk.last_line,
            score.label("score"),
        )
        .join(File, File.id == FileChunk.file_id)
        .where(FileChunk.collection_id == scope.collection_id, scope.files())
    )


def _most(limit: int) -> int:
    """Chunks that `limit` files need, where some have several of the best."""
    return min(limit * _CHUNKS_A_FILE, max(_MOST_CHUNKS, limit))


class _Halfvec(UserDefinedType[str]):
    """`halfvec(n)`, given as text."""

    cache_ok = True

    def __init__(self, size: int) -> None:
        self.size = size

    @override
    def get_col_spec(self, **_: Any) -> str:
        return f"halfvec({self.size})"
