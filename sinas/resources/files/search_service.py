"""Search in the files of a collection."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import DeadlineError, SinasError, UnavailableError
from sinas.models import IndexStatus
from sinas.resources.files import search_queries as queries
from sinas.resources.files.search_matches import Match, Pattern
from sinas.resources.files.search_queries import Scope
from sinas.resources.files.search_schemas import FileSearchRequest, SearchMode
from sinas.resources.files.storage import Content
from sinas.search.documents import DocumentError
from sinas.search.formats import format_of
from sinas.search.texts import decoded

# Of one file, in an answer that ranks chunks.
_MOST_CHUNKS = 4
_MOST_BYTES_UNREAD = 8_000_000
_MOST_CHARS_AT_ONCE = 2_000_000


@dataclass(slots=True, kw_only=True)
class Found:
    """A file and where in it."""

    file_id: UUID
    filename: str
    version: int
    matches: list[Match] = field(default_factory=list)


class FileSearch:
    """Finds files of one collection that its caller may see.

    Holds a transaction only while the database works: not while a model is asked or a file read.
    """

    def __init__(self, context: AppContext, content: Content) -> None:
        self._context = context
        self._content = content
        self._seconds = context.settings.search.timeout_seconds

    async def find(self, scope: Scope, wanted: FileSearchRequest) -> Sequence[Found]:
        """The files, the best first where the mode ranks, else by name.

        Raises:
            BadRequestError: The query is no regular expression, or takes too long.
            UnavailableError: Search by meaning is off, or its model does not answer.
            DeadlineError: The database takes too long.
        """
        query = wanted.query
        if query is None or not query.strip():
            return await self._by_name(scope, "", wanted.limit)
        match wanted.mode:
            case SearchMode.NAME:
                return await self._by_name(scope, query, wanted.limit)
            case SearchMode.REGEX:
                pattern = Pattern(query, seconds=self._seconds)
                return await self.by_pattern(scope, pattern, wanted.limit)
            case SearchMode.TEXT:
                return await self._by_words(scope, query, wanted.limit)
            case SearchMode.SEMANTIC:
                return await self._by_meaning(scope, query, wanted.limit)

    async def by_pattern(self, scope: Scope, pattern: Pattern, limit: int) -> Sequence[Found]:
        """Files whose names or lines a pattern matches, by name.

        A text file that has no index yet is read itself: what was uploaded a moment ago is found.
        """
        found: list[Found] = []
        after: tuple[str, UUID] | None = None
        while True:
            async with self._session() as session:
                rows = (await session.execute(queries.next_files(scope, after))).all()
            for some in _loads(rows):
                async with self._session() as session:
                    texts = await queries.texts_of(session, some)
                for row in some:
                    text = texts.pop(row.id, None)
                    if text is None:
                        text = await self._unread(row)
                    matches = await pattern.lines(text or "")
                    if matches or pattern.finds(row.name):
                        found.append(_of(row, matches))
                    if len(found) == limit:
                        return found
            if not rows:
                return found
            after = (rows[-1].name, rows[-1].id)

    async def _unread(self, row: Row[Any]) -> str | None:
        """The text of a file that is not indexed yet, where the file is text itself."""
        kind = format_of(row.content_type, row.name)
        is_waiting = row.status in (None, IndexStatus.PENDING, IndexStatus.FAILED)
        if kind is None or not kind.is_text or not is_waiting:
            return None
        data = bytearray()
        try:
            async with aclosing(self._content(row.id, row.current_version)) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > _MOST_BYTES_UNREAD:
                        break
        except (SinasError, OSError):
            return None  # replaced or deleted meanwhile; the index will say what is wrong
        try:
            return decoded(bytes(data), self._context.settings.search.max_text_chars)[0]
        except DocumentError:
            return None

    async def _by_name(self, scope: Scope, query: str, limit: int) -> Sequence[Found]:
        return await self.by_condition(scope, queries.named(query.split()), limit)

    async def by_condition(
        self, scope: Scope, condition: ColumnElement[bool], limit: int
    ) -> Sequence[Found]:
        """Files that a condition holds for, by name."""
        statement = queries.found_files(scope, limit).where(condition)
        async with self._session() as session:
            rows = (await session.execute(statement)).all()
        return [_of(row, []) for row in rows]

    async def _by_words(self, scope: Scope, query: str, limit: int) -> Sequence[Found]:
        language = self._context.settings.search.language
        async with self._session() as session:
            rows = await queries.by_words(session, scope, query, language, limit)
        return _grouped(rows, limit)

    async def _by_meaning(self, scope: Scope, query: str, limit: int) -> Sequence[Found]:
        embedder = self._context.embedder
        if embedder is None:
            raise UnavailableError(
                "Search by meaning is off (SEARCH_EMBEDDING_PROVIDER is none); use the mode text.",
                retry_after_seconds=3600,
            )
        (vector,) = await embedder.embed([query])
        async with self._session() as session:
            rows = await queries.by_meaning(session, scope, vector, embedder, limit)
        return _grouped(rows, limit)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncSession]:
        try:
            async with self._context.unit() as unit:
                await queries.limit_time(unit.session, self._seconds)
                yield unit.session
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":
                raise
            raise DeadlineError(
                f"The search takes longer than {self._seconds:g} seconds; search less with "
                "metadata_filter."
            ) from error


def _loads(rows: Sequence[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """As many files at a time as have texts that may be in memory together."""
    load: list[Row[Any]] = []
    chars = 0
    for row in rows:
        if load and chars + row.char_count > _MOST_CHARS_AT_ONCE:
            yield load
            load, chars = [], 0
        load.append(row)
        chars += row.char_count
    if load:
        yield load


def _of(row: Any, matches: list[Match]) -> Found:
    return Found(file_id=row.id, filename=row.name, version=row.current_version, matches=matches)


def _grouped(rows: Sequence[Row[Any]], limit: int) -> Sequence[Found]:
    """Chunks by file, in the order of each file's best one."""
    files: dict[UUID, Found] = {}
    for row in rows:
        found = files.get(row.id)
        if found is None:
            if len(files) == limit:
                continue
            found = files[row.id] = _of(row, [])
        if len(found.matches) < _MOST_CHUNKS:
            found.matches.append(
                Match(
                    line=row.first_line,
                    end_line=row.last_line,
                    text=row.content,
                    page=row.page,
                    headings=row.headings or None,
                    score=float(row.score),
                )
            )
    return list(files.values())
