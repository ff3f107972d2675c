"""Text and Markdown: the document is the file, and blocks are places in it."""

import re

from markdown_it import MarkdownIt

from sinas.search.documents import Block, Document
from sinas.search.texts import decoded

_BLANK_LINES = re.compile(r"\n[ \t\r]*\n\s*")


def read_text(data: bytes, most: int) -> Document:
    """Paragraphs of UTF-8 text.

    Raises:
        DocumentError: It is not UTF-8, or binary.
    """
    text, is_whole = decoded(data, most)
    blocks: list[Block] = []
    start = 0
    for gap in _BLANK_LINES.finditer(text):
        _append(blocks, text, start, gap.start())
        start = gap.end()
    _append(blocks, text, start, len(text))
    return Document(text, tuple(blocks), is_whole)


def read_markdown(data: bytes, most: int) -> Document:
    """Top-level blocks of CommonMark, with the levels of headings.

    Raises:
        DocumentError: It is not UTF-8, or binary.
    """
    text, is_whole = decoded(data, most)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    starts.append(len(text))
    blocks: list[Block] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.level != 0 or token.map is None or token.nesting < 0:
            continue
        first, after = token.map
        level = int(token.tag[1]) if token.type == "heading_open" else 0
        start, end = starts[first], starts[min(after, len(starts) - 1)]
        _append(blocks, text, start, end, level)
    return Document(text, tuple(blocks), is_whole)


def _append(blocks: list[Block], text: str, start: int, end: int, level: int = 0) -> None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    if start < end:
        blocks.append(Block(start, end, level))
