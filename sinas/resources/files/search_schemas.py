"""Bodies of search."""

import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Input, Output
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.models import IndexStatus


class SearchMode(StrEnum):
    """How the query is understood."""

    REGEX = "regex"
    NAME = "name"
    TEXT = "text"
    SEMANTIC = "semantic"


def _storable_object(value: JsonObject) -> JsonObject:
    try:
        encode(value)
    except NotJsonError as error:
        raise ValueError(f"The filter {error}.") from error
    return value


def _storable_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("The query holds a NUL character, which no text has.")
    # As names and chunks are kept.
    return unicodedata.normalize("NFC", value)


class FileSearchRequest(Input):
    """What to find. Without a query, every file that the filter lets through."""

    query: Annotated[str, Field(max_length=2000), AfterValidator(_storable_text)] | None = None
    metadata_filter: Annotated[
        JsonObject,
        AfterValidator(_storable_object),
        Field(
            description='Files whose metadata contain this: `{"year": 2026}`, '
            '`{"tags": ["draft"]}` (among others), nested objects likewise.'
        ),
    ] = {}
    limit: int = Field(100, ge=1, le=1000, description="Files at most.")
    mode: SearchMode = Field(
        SearchMode.REGEX,
        description="`regex`: a regular expression in names and lines, whatever the case. "
        '`name`: words of the name. `text`: words of the text in their forms, with `"a phrase"`, '
        "`or` and `-not`. `semantic`: what the text means.",
    )


class FileSearchMatch(Output):
    """A place in a file.

    For text files lines are the file's own; for others those of the text that was read from it.
    """

    line: int = Field(description="From 1.")
    text: str
    context: list[str] = Field(description="Up to two lines before and after, for `regex`.")
    end_line: int
    page: int | None = Field(description="Page, slide or sheet.")
    headings: str | None = Field(description="The headings above it, outermost first.")
    score: float | None = Field(description="How well it matches; compare within one answer only.")


class FileSearchResult(Output):
    """A file that was found: by its name alone where there are no matches."""

    file_id: UUID
    filename: str
    version: int
    matches: list[FileSearchMatch]


class FileIndexRead(Output):
    """How far the search index of a file is."""

    status: IndexStatus = Field(
        description="`pending`, `indexed`, `skipped` (there is no text in it) or `failed` (will "
        "be tried again)."
    )
    version: int = Field(description="The version it is of.")
    error: str | None = Field(description="Why it was skipped, or failed.")
    is_whole: bool = Field(description="Whether all of its text is searched.")
    chunk_count: int = Field(description="In how many pieces its text is.")
    indexed_at: datetime | None
