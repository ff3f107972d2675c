"""What reading a file gives: its text and where its parts are."""

from dataclasses import dataclass, field
from typing import cast

from sinas.kit.json_types import JsonObject, JsonValue


class DocumentError(Exception):
    """The file cannot be read, and will not be another time. The message says why."""


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, paragraph or row of a document.

    Attributes:
        start: First character in the document's text.
        end: One after the last.
        level: 1 to 6 for a heading, 0 for what is none.
        page: Page or slide, from 1; None where there are none.
    """

    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A file as text.

    Attributes:
        text: For text files what they hold, character by character, so that offsets and lines
            count in the file; for others what their reader found, a block a paragraph.
        blocks: In order, without overlap.
        is_whole: Whether nothing was cut off at the limit.
    """

    text: str
    blocks: tuple[Block, ...]
    is_whole: bool = True

    def to_json(self) -> JsonObject:
        """For the way from the child process."""
        blocks: list[JsonValue] = [[b.start, b.end, b.level, b.page] for b in self.blocks]
        return {"text": self.text, "blocks": blocks, "is_whole": self.is_whole}

    @classmethod
    def from_json(cls, value: JsonObject) -> "Document":
        """The other end of `to_json`."""
        blocks = cast("list[tuple[int, int, int, int | None]]", value["blocks"])
        return cls(
            str(value["text"]), tuple(Block(*block) for block in blocks), bool(value["is_whole"])
        )


@dataclass(slots=True)
class Writer:
    """Puts a document together, block by block.

    Attributes:
        most: Characters at most.
        page: Of the blocks that follow.
    """

    most: int
    page: int | None = None
    _parts: list[str] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _length: int = 0
    is_full: bool = False

    def add(self, text: str, level: int = 0) -> None:
        """A block, or none where there is nothing but space. Ignored once `is_full`."""
        text = storable(text).strip()
        if not text or self.is_full:
            return
        start = self._length + (2 if self._parts else 0)
        if start + len(text) > self.most:
            self.is_full = True
            text = text[: max(0, self.most - start)]
            if not text:
                return
        if self._parts:
            self._parts.append("\n\n")
        self._parts.append(text)
        self._length = start + len(text)
        self._blocks.append(Block(start, self._length, min(level, 6), self.page))

    def document(self) -> Document:
        """What was added."""
        return Document("".join(self._parts), tuple(self._blocks), not self.is_full)


def storable(text: str) -> str:
    """`text` without what PostgreSQL's text cannot hold; the length stays."""
    if text.isascii() and "\0" not in text:
        return text
    text = text.replace("\0", "\ufffd")
    return text.encode("utf-8", "replace").decode() if _has_surrogate(text) else text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
