"""Cuts documents into chunks: small enough to mean one thing, cut where their structure is."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sinas.search.documents import Block, Document

# The embedding model reads some 256 tokens, which are about as many characters as this in English.
_MOST = 1000
# A heading ends a chunk that has at least this; shorter sections share one.
_LEAST = 300
_OVERLAP = 120
_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
_SPACE = re.compile(r"\s+")
_MOST_TITLE = 120
# Levels and titles of the headings that something stands under.
_Path: TypeAlias = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text.

    Attributes:
        text: `document.text[start:end]`, in Unicode's form NFC, as queries are.
        headings: The headings it stands under, outermost first, joined by ` > `; likewise.
        page: Page or slide it begins on.
        first_line: From 1, in the document's text.
        last_line: Inclusive.
    """

    text: str
    headings: str
    page: int | None
    start: int
    end: int
    first_line: int
    last_line: int

    @property
    def with_headings(self) -> str:
        """What its meaning is taken from: a paragraph says little without what it is about."""
        return f"{self.headings}\n{self.text}" if self.headings else self.text


def chunks_of(document: Document) -> list[Chunk]:
    """The chunks, in order. Those of one long paragraph overlap a little."""
    newlines = [match.start() for match in re.finditer("\n", document.text)]
    chunks = []
    for start, end, headings, page in _spans(document):
        first = bisect_right(newlines, start - 1) + 1
        last = bisect_right(newlines, end - 2) + 1
        text = _composed(document.text[start:end])
        chunks.append(Chunk(text, headings, page, start, end, first, max(first, last)))
    return chunks


def _spans(document: Document) -> Iterator[tuple[int, int, str, int | None]]:
    """Start, end, headings and page of each chunk."""
    path: _Path = ()
    open_: tuple[int, int, _Path, int | None] | None = None
    for block in document.blocks:
        if block.level:
            path = (*(one for one in path if one[0] < block.level), _title(document, block))
        if open_ is not None:
            length = open_[1] - open_[0]
            is_new_part = bool(block.level) or block.page != open_[3]
            if block.end - open_[0] > _MOST or (is_new_part and length >= _LEAST):
                yield _named(open_)
                open_ = None
        if open_ is not None:
            # Sections that share a chunk share only some of their headings.
            common = tuple(one for one, other in zip(open_[2], path, strict=False) if one == other)
            open_ = (open_[0], block.end, common, open_[3])
        elif block.end - block.start <= _MOST:
            open_ = (block.start, block.end, path, block.page)
        else:
            for start, end in _cut(document.text, block):
                yield _named((start, end, path, block.page))
    if open_ is not None:
        yield _named(open_)


def _title(document: Document, block: Block) -> tuple[int, str]:
    text = document.text[block.start : block.end]
    return block.level, _composed(_SPACE.sub(" ", text).lstrip("# ")[:_MOST_TITLE])


def _composed(piece: str) -> str:
    """For pieces only: the order of a long run of accents takes its length squared."""
    return unicodedata.normalize("NFC", piece)


def _named(
    span: tuple[int, int, _Path, int | None],
) -> tuple[int, int, str, int | None]:
    start, end, path, page = span
    return start, end, " > ".join(title for _, title in path), page


def _cut(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """Pieces of a long block: whole sentences where there are any, else words, else anything."""
    start = block.start
    while block.end - start > _MOST:
        end = _last(_SENTENCE, text, start + _LEAST, start + _MOST)
        end = end or _last(_SPACE, text, start + _LEAST, start + _MOST) or start + _MOST
        yield start, end
        # From a word's beginning a little before the cut.
        again = _last(_SPACE, text, max(start + 1, end - _OVERLAP - 40), end - _OVERLAP)
        start = again or end
    yield start, block.end


def _last(pattern: re.Pattern[str], text: str, low: int, high: int) -> int | None:
    """Where the last match in `text[low:high]` ends."""
    found = None
    for match in pattern.finditer(text, low, high):
        found = match.end()
    return found
