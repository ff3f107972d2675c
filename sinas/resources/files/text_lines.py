"""Text as models read it: some lines of it, with their numbers."""

import codecs
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from sinas.kit.media_types import essence

MOST_LINES: Final = 2000
_MOST_CHARS: Final = 80_000
_MOST_LINE_CHARS: Final = 2000
_NO_TEXT: Final = ("image/", "audio/", "video/", "font/")


class NotTextError(Exception):
    """The content is no UTF-8 text."""


def may_be_text(content_type: str) -> bool:
    """Whether it is worth looking."""
    return not essence(content_type).startswith(_NO_TEXT)


@dataclass(slots=True)
class Lines:
    """Lines `first` and on of a text, as many as were asked for and fit.

    Attributes:
        total: How many lines the text has.
        shown: The lines, numbered.
    """

    first: int
    total: int = 0
    shown: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Number of the last line shown."""
        return self.first + len(self.shown) - 1

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.first == 1 and self.last == self.total


async def read_lines(pieces: AsyncIterator[bytes], offset: int, limit: int) -> Lines:
    """Read a text to its end, and keep `limit` lines of it from number `offset` on.

    Raises:
        NotTextError: It is none.
    """
    lines = Lines(first=offset)
    chars = 0

    def take(line: str) -> None:
        nonlocal chars
        lines.total += 1
        wanted = offset <= lines.total < offset + limit and lines.total == lines.last + 1
        text = _shown(line)
        if wanted and chars + len(text) <= _MOST_CHARS:
            lines.shown.append(f"{lines.total:6}\t{text}")
            chars += len(text)

    rest = ""
    async for text in decoded(pieces):
        first, *more = text.split("\n")
        # Of an endless line only the beginning is kept.
        rest = rest if len(rest) > _MOST_LINE_CHARS else rest + first
        for line in more:
            take(rest)
            rest = line
    if rest:
        take(rest)
    return lines


async def decoded(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """UTF-8 as text.

    Raises:
        NotTextError: It is none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for piece in pieces:
            text = decoder.decode(piece)
            if "\x00" in text:
                raise NotTextError
            yield text
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotTextError from error


def _shown(line: str) -> str:
    line = line.removesuffix("\r")
    return line if len(line) <= _MOST_LINE_CHARS else f"{line[:_MOST_LINE_CHARS]} [line cut]"
