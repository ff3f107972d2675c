"""Regular expressions of users, run over texts: never longer than they are given."""

import asyncio
import time
import unicodedata
from dataclasses import dataclass

import re2

from sinas.errors import BadRequestError, FieldError

_CONTEXT_LINES = 2
_MOST_MATCHES = 100
_MOST_LINE_CHARS = 2000
_MEMORY_BYTES = 8 * 1024 * 1024
_LINES_A_LOOK = 500
# More marks on one letter than any language has (Unicode's "stream-safe" texts have 30).
_MOST_MARKS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A place in a file's text, with what the answer says of it."""

    line: int
    text: str
    context: tuple[str, ...] = ()
    end_line: int
    page: int | None = None
    headings: str | None = None
    score: float | None = None


class Pattern:
    """A regular expression in RE2's syntax, and the time that is left for it.

    RE2 takes time in proportion to the text, and a bounded memory, whatever the pattern. Python's
    engines do not: with some patterns of twenty characters they never end, or take gigabytes.

    Args:
        text: Case does not matter, unless it says `(?-i)`; nor does it, in pattern and texts,
            whether accents are characters of their own (it is matched in Unicode's form NFC).
        seconds: For everything it is asked to match.
        literal: Whether `text` is what is looked for, to the letter.

    Raises:
        BadRequestError: It is no regular expression, or one that RE2 does not have.
    """

    def __init__(self, text: str, *, seconds: float, literal: bool = False) -> None:
        text = unicodedata.normalize("NFC", text)
        source = re2.escape(text) if literal else text
        options = _options()
        options.case_sensitive = False
        try:
            self._line = re2.compile(source, options)
            self._somewhere = re2.compile(f"(?m){source}", options)
        except (re2.error, UnicodeError) as error:
            raise _refused(
                f"The query is no regular expression{_reason(error)}. It is in the syntax of RE2, "
                "without look-around and back-references."
            ) from error
        # These mean the ends of a line here, and of the whole text there.
        self._may_skip = not any(anchor in source for anchor in (r"\A", r"\z"))
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def finds(self, text: str) -> bool:
        """Whether it matches somewhere in `text`, a name; names are in NFC."""
        return self._line.search(text) is not None

    async def lines(self, text: str) -> list[Match]:
        """The lines it matches in, in a thread: a text may have millions of characters.

        Raises:
            BadRequestError: The time is over.
        """
        if time.monotonic() > self._deadline:
            raise self._too_slow()
        return await asyncio.to_thread(self._lines, text)

    def _lines(self, text: str) -> list[Match]:
        searched = _composed(text)
        if self._may_skip and self._somewhere.search(searched) is None:
            return []
        # What is shown is the file's own; NFC joins and parts no lines.
        lines = text.removesuffix("\n").split("\n")
        found = []
        for index, line in enumerate(searched.removesuffix("\n").split("\n")):
            if index % _LINES_A_LOOK == 0 and time.monotonic() > self._deadline:
                raise self._too_slow()
            if self._line.search(line) is None:
                continue
            around = lines[max(0, index - _CONTEXT_LINES) : index + _CONTEXT_LINES + 1]
            found.append(
                Match(
                    line=index + 1,
                    end_line=index + 1,
                    text=_cut(lines[index]),
                    context=tuple(map(_cut, around)),
                )
            )
            if len(found) == _MOST_MATCHES:
                break
        return found

    def _too_slow(self) -> BadRequestError:
        return _refused(
            f"The search takes longer than {self._seconds:g} seconds; search less with "
            "metadata_filter, or use the mode text."
        )


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    return options


_ENDLESS_MARKS = re2.compile(rf"\pM{{{_MOST_MARKS + 1}}}", _options())


def _composed(text: str) -> str:
    """`text` in NFC, unless marks make that expensive: ordering them takes their number squared."""
    if text.isascii() or _ENDLESS_MARKS.search(text) is not None:
        return text
    return unicodedata.normalize("NFC", text)


def _reason(error: Exception) -> str:
    """What RE2 says of a pattern; it says it in bytes."""
    said = error.args[0] if isinstance(error, re2.error) and error.args else b""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return f" ({text})" if text else ""


def _refused(message: str) -> BadRequestError:
    return BadRequestError(message, [FieldError("query", message)])


def _cut(line: str) -> str:
    return line.rstrip("\r")[:_MOST_LINE_CHARS]
