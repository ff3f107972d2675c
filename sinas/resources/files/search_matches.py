"""Regular expressions of users, run over texts: never longer than they are given."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]

from sinas.errors import BadRequestError, FieldError

_CONTEXT_LINES = 2
_MOST_MATCHES = 100
_MOST_LINE_CHARS = 2000


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
    """A compiled pattern and the time that is left for it.

    Args:
        text: In the syntax of Python's `re`; case does not matter.
        seconds: For everything it is asked to match.

    Raises:
        BadRequestError: It is no regular expression.
    """

    def __init__(self, text: str, *, seconds: float, literal: bool = False) -> None:
        source = regex.escape(text) if literal else text
        try:
            self._pattern: Any = regex.compile(source, regex.IGNORECASE)
        except (regex.error, OverflowError, RecursionError) as error:
            raise _refused(f"The query is no regular expression: {error}.") from error
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def finds(self, text: str) -> bool:
        """Whether it matches somewhere in `text`, a name.

        Raises:
            BadRequestError: The time is over.
        """
        return self._search(text)

    async def lines(self, text: str) -> list[Match]:
        """The lines it matches in, in a thread: a text may have millions of characters.

        Raises:
            BadRequestError: The time is over.
        """
        return await asyncio.to_thread(self._lines, text)

    def _lines(self, text: str) -> list[Match]:
        lines = text.split("\n")
        found = []
        for index, line in enumerate(lines):
            if not self._search(line):
                continue
            around = lines[max(0, index - _CONTEXT_LINES) : index + _CONTEXT_LINES + 1]
            found.append(
                Match(
                    line=index + 1,
                    end_line=index + 1,
                    text=_cut(line),
                    context=tuple(map(_cut, around)),
                )
            )
            if len(found) == _MOST_MATCHES:
                break
        return found

    def _search(self, text: str) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        try:
            # `concurrent` lets other threads run meanwhile.
            found = self._pattern.search(text, timeout=left, concurrent=len(text) > 1000)
        except TimeoutError as error:
            raise self._too_slow() from error
        return found is not None

    def _too_slow(self) -> BadRequestError:
        return _refused(
            f"The regular expression takes longer than {self._seconds:g} seconds; make it simpler, "
            "or search less with metadata_filter."
        )


def _refused(message: str) -> BadRequestError:
    return BadRequestError(message, [FieldError("query", message)])


def _cut(line: str) -> str:
    return line.rstrip("\r")[:_MOST_LINE_CHARS]
