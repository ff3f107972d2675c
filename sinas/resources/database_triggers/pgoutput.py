"""What PostgreSQL's output plugin `pgoutput` writes, protocol version 1. Pure.

After the chapter "Logical Replication Message Formats" of PostgreSQL's documentation. Values come
as text, in the encoding of the session that asked: UTF-8.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

ChangeKind: TypeAlias = Literal["INSERT", "UPDATE", "DELETE"]
# Names of columns, and their values as text; None is NULL.
Texts: TypeAlias = Mapping[str, str | None]

_KINDS: Mapping[bytes, ChangeKind] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}
# Origins, types and truncations: nothing that is reported follows from them.
_PASSED = frozenset({b"O", b"Y", b"T"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, as it was when the change was made.

    Attributes:
        is_key: Whether it is a part of the replica identity.
    """

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, as it was when the changes that name it were made."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message of a transaction, with the place of its commit in the log."""

    commit_lsn: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The last message of a transaction, with the place behind it."""

    end_lsn: int


@dataclass(frozen=True, slots=True)
class Change:
    """One row that was changed.

    Attributes:
        row: What is known of it: after an insert or update; of a deleted one its replica identity,
            which may be all of it. A large value that an update left as it was is only there when
            the old row was sent with it.
    """

    kind: ChangeKind
    relation: Relation
    row: Texts


class Decoder:
    """Reads the messages of one session, in order: later ones name tables that were described."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}

    def read(self, message: bytes) -> Begin | Commit | Change | None:
        """One message; None for those that carry nothing to report.

        Raises:
            ValueError: It is none of the protocol's version 1.
        """
        kind, reader = message[:1], _Reader(message)
        if kind in _KINDS:
            return self._change(_KINDS[kind], reader)
        if kind == b"B":
            return Begin(commit_lsn=reader.integer(">Q"))
        if kind == b"C":
            reader.integer(">B")  # flags
            reader.integer(">Q")  # place of the commit, as in Begin
            return Commit(end_lsn=reader.integer(">Q"))
        if kind == b"R":
            oid = reader.integer(">I")
            self._relations[oid] = _relation(reader)
        elif kind not in _PASSED:
            raise ValueError(f"pgoutput sent an unknown message {kind!r}")
        return None

    def _change(self, kind: ChangeKind, reader: "_Reader") -> Change:
        relation = self._relations[reader.integer(">I")]
        old: dict[str, str | None] = {}
        part = reader.taken(1)
        if part in (b"K", b"O"):
            old = reader.row(relation, keys_only=part == b"K")
            if kind == "DELETE":
                return Change(kind, relation, old)
            reader.taken(1)  # N
        new = reader.row(relation)
        whole = {
            column.name: new.get(column.name, old.get(column.name))
            for column in relation.columns
            if column.name in new or column.name in old
        }
        return Change(kind, relation, whole)


def _relation(reader: "_Reader") -> Relation:
    reader.text()  # schema
    reader.text()  # name
    reader.taken(1)  # kind of the replica identity
    columns = []
    for _ in range(reader.integer(">H")):
        is_key = bool(reader.integer(">B") & 1)
        name = reader.text()
        columns.append(Column(name, reader.integer(">I"), reader.integer(">i"), is_key))
    return Relation(tuple(columns))


class _Reader:
    """The parts of a message, one after the other. The first byte, its kind, is passed."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 1

    def taken(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._message):
            raise ValueError("a message of pgoutput ends too early")
        taken, self._at = self._message[self._at : end], end
        return taken

    def integer(self, format_: str) -> int:
        (value,) = struct.unpack(format_, self.taken(struct.calcsize(format_)))
        return int(value)

    def text(self) -> str:
        end = self._message.index(b"\0", self._at)
        taken, self._at = self._message[self._at : end], end + 1
        return taken.decode()

    def row(self, relation: Relation, *, keys_only: bool = False) -> dict[str, str | None]:
        """Values by name, without those that were not sent."""
        values: dict[str, str | None] = {}
        count = self.integer(">H")
        for column in relation.columns[:count]:
            kind = self.taken(1)
            text = self.taken(self.integer(">I")).decode() if kind == b"t" else None
            if kind != b"u" and (column.is_key or not keys_only):
                values[column.name] = text
        return values
