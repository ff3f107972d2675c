"""`search_collection_…`: search as a tool of agents."""

import unicodedata
from collections.abc import Collection as Names
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import ColumnElement, String, cast, func, literal_column, or_, select

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.egress.policy import EgressError
from sinas.errors import BadRequestError, DeadlineError, UnavailableError, UpstreamError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import File
from sinas.resources.files.repository import own_or_shared
from sinas.resources.files.search_matches import Match, Pattern
from sinas.resources.files.search_queries import Scope
from sinas.resources.files.search_schemas import FileSearchRequest, SearchMode
from sinas.resources.files.search_service import FileSearch, Found
from sinas.resources.files.storage import content_of
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolResult
from sinas.tools.names import fitting

_MOST_FILES: Final = 50
_MOST_MATCHES: Final = 5
_MOST_CHARS: Final = 1200
_SPACES: Final = str.maketrans("-_.", "   ")
# Every text, number and boolean, however deep.
_VALUES: Final[ColumnElement[str]] = literal_column(
    """'strict $.** ? (@.type() != "object" && @.type() != "array")'::jsonpath"""
)

_PARAMETERS: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "description": "What to find. Left out, the files are listed.",
        },
        "mode": {
            "type": "string",
            "enum": ["keyword", "semantic", "text", "regex", "name"],
            "description": "keyword (the default): words of names and metadata, else a regular "
            "expression in the text. semantic: what the text is about, in any words; best for "
            "questions. text: words of the text in all their forms, the best first. regex, name: "
            "only these.",
        },
        "metadata_filter": {
            "type": "object",
            "description": "Only files whose metadata contain this.",
        },
        "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_FILES},
    },
}
_DESCRIPTION: Final = (
    "Searches the files of the collection. Matches have line numbers: read on from there with "
    "offset and limit of the tool that gets a file."
)


def search_tool(search: "SearchCollection", *, taken: Names[str] = ()) -> Tool:
    """The tool for one collection that an agent has enabled."""
    plain = f"search_collection_{search.namespace}_{search.name}".replace("-", "_")
    return Tool(
        name=fitting(plain, search.reference, taken=taken),
        description=f"{_DESCRIPTION} The collection is '{search.reference}'.",
        parameters=_PARAMETERS,
        run=search,
        status_key=f"collection:{search.reference}",
        status="Searching files",
        resource=(search.namespace, search.name),
        resumable=True,
    )


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str | None = Field(None, max_length=2000)
    mode: Literal["keyword", "semantic", "text", "regex", "name"] = "keyword"
    metadata_filter: JsonObject = {}
    limit: int = Field(_MOST_FILES, ge=1, le=_MOST_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCollection:
    """The calls of one collection's search by one caller."""

    context: AppContext
    caller: Principal
    collection_id: UUID
    namespace: str
    name: str

    @property
    def reference(self) -> str:
        """`namespace/name` of the collection."""
        return f"{self.namespace}/{self.name}"

    async def __call__(self, call: Call) -> ToolResult:
        permission = f"sinas.collections/{self.reference}.download:own"
        if not self.caller.can(permission):
            return Failed("Not authorized", f"This needs the permission '{permission}'.")
        try:
            given = _Arguments.model_validate(call.arguments)
            wanted = FileSearchRequest(
                query=given.query,
                metadata_filter=given.metadata_filter,
                limit=given.limit,
                mode=SearchMode.REGEX if given.mode == "keyword" else SearchMode(given.mode),
            )
        except ValidationError as error:
            first = error.errors()[0]
            return Retry(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        scope = Scope(
            collection_id=self.collection_id,
            visible=own_or_shared(self.caller.user_id),
            metadata_filter=given.metadata_filter,
        )
        search = FileSearch(self.context, content_of(self.context))
        try:
            if given.mode == "keyword" and given.query and given.query.strip():
                found = await self._by_keywords(search, scope, given.query, given.limit)
            else:
                found = await search.find(scope, wanted)
        except BadRequestError as error:
            return Retry(error.message)
        except (DeadlineError, UnavailableError, UpstreamError, EgressError) as error:
            return Failed("Search failed", error.message)
        return Ok(await self._answer(found))

    async def _by_keywords(
        self, search: FileSearch, scope: Scope, query: str, limit: int
    ) -> Sequence[Found]:
        """Any word in name or metadata; besides, the query as an expression in the text."""
        # Names have accents in one form, metadata in whichever they came.
        words = sorted({*query.split(), *unicodedata.normalize("NFC", query).split()})
        named = await search.by_condition(scope, _mentions(words), limit)
        pattern = self._pattern(query)
        seen = {found.file_id: found for found in await search.by_pattern(scope, pattern, limit)}
        first = [seen.pop(found.file_id, found) for found in named]
        return [*first, *seen.values()][:limit]

    def _pattern(self, query: str) -> Pattern:
        seconds = self.context.settings.search.timeout_seconds
        try:
            return Pattern(query, seconds=seconds)
        except BadRequestError:
            return Pattern(query, seconds=seconds, literal=True)

    async def _answer(self, found: Sequence[Found]) -> JsonValue:
        statement = select(File.id, File.content_type, File.file_metadata, File.visibility).where(
            File.id.in_([one.file_id for one in found])
        )
        async with self.context.statement_unit() as unit:
            rows = {row.id: row for row in (await unit.session.execute(statement)).all()}
        files: list[JsonValue] = []
        for one in found:
            row = rows.get(one.file_id)
            if row is None:
                continue  # deleted meanwhile
            file: JsonObject = {
                "filename": one.filename,
                "content_type": row.content_type,
                "version": one.version,
                "metadata": row.file_metadata,
                "visibility": row.visibility.value,
            }
            if one.matches:
                file["matches"] = [_match(match) for match in one.matches[:_MOST_MATCHES]]
            files.append(file)
        return {"files": files, "count": len(files)}


def _mentions(words: Sequence[str]) -> ColumnElement[bool]:
    """SQL: files that have one of the words in their names or in a value of their metadata."""
    name = func.translate(func.lower(File.name), "-_.", "   ")
    values = func.lower(cast(func.jsonb_path_query_array(File.file_metadata, _VALUES), String))
    conditions = []
    for word in words:
        lower = word.lower()
        conditions.append(name.contains(lower.translate(_SPACES), autoescape=True))
        conditions.append(values.contains(lower, autoescape=True))
    return or_(*conditions)


def _match(match: Match) -> JsonValue:
    told: JsonObject = {"line": match.line, "text": match.text[:_MOST_CHARS]}
    if match.end_line != match.line:
        told["end_line"] = match.end_line
    if match.page is not None:
        told["page"] = match.page
    if match.headings:
        told["headings"] = match.headings
    if match.score is not None:
        told["score"] = round(match.score, 3)
    return told
