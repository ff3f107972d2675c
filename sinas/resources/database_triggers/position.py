"""How far a trigger has come in its table, and when it looks again. Pure.

Values and keys are kept as PostgreSQL writes them, so that they mean there what they meant.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from sinas.kit.json_types import JsonObject

# Rows of one value whose keys are remembered one by one. Beyond, only later keys are new.
MOST_KEYS = 10_000
_LONGEST_BACKOFF = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A value that was seen, below which open transactions may still commit others.

    Attributes:
        value: Largest value that was committed then.
        holders: Transactions that were open after it was seen, and have not been seen to end.
        since: Seconds of the epoch, by the clock of the user's database.
    """

    value: str
    holders: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """Everything up to and with `value` was reported, save what came later with that value.

    Attributes:
        value: None where the table was empty, or is to be reported from its beginning.
        keys: Keys of the rows with `value` that were reported; None when they were too many.
        last_key: The largest key among them.
    """

    value: str | None = None
    keys: tuple[str, ...] | None = ()
    last_key: str | None = None
    pending: Pending | None = None

    @classmethod
    def load(cls, stored: JsonObject) -> Self:
        """From the row's column."""
        pending = stored.get("pending")
        keys = stored.get("keys")
        return cls(
            value=_text(stored.get("value")),
            keys=tuple(map(str, keys)) if isinstance(keys, list) else None,
            last_key=_text(stored.get("last_key")),
            pending=_pending(pending) if isinstance(pending, dict) else None,
        )

    def dump(self) -> JsonObject:
        """For the row's column."""
        pending = self.pending
        return {
            "value": self.value,
            "keys": None if self.keys is None else list(self.keys),
            "last_key": self.last_key,
            "pending": None
            if pending is None
            else {
                "value": pending.value,
                "holders": list(pending.holders),
                "since": pending.since,
            },
        }

    def after(self, rows: Sequence[tuple[str, str]]) -> Self:
        """Behind these rows: values and keys, in the table's order. Not empty."""
        value, last_key = rows[-1]
        new = [key for each, key in rows if each == value]
        before: tuple[str, ...] | None = self.keys if value == self.value else ()
        keys = None if before is None or len(before) + len(new) > MOST_KEYS else (*before, *new)
        return replace(self, value=value, keys=keys, last_key=last_key)

    def waiting(self, pending: Pending | None) -> Self:
        """The same place, waiting for something else."""
        return replace(self, pending=pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """How far a trigger by replication has come in the log of its server.

    Attributes:
        value: Commit of the last transaction of which something was reported; None before.
        ordinal: How many of its changes were.
        publication: Oid of the publication that the changes came through.
    """

    value: int | None = None
    ordinal: int = 0
    publication: int

    @classmethod
    def load(cls, stored: JsonObject) -> Self:
        """From the row's column."""
        value, ordinal, publication = (
            stored.get(key) for key in ("value", "ordinal", "publication")
        )
        return cls(
            value=None if value is None else lsn_of(str(value)),
            ordinal=ordinal if isinstance(ordinal, int) else 0,
            publication=publication if isinstance(publication, int) else 0,
        )

    def dump(self) -> JsonObject:
        """For the row's column."""
        return {
            "value": None if self.value is None else lsn_text(self.value),
            "ordinal": self.ordinal,
            "publication": self.publication,
        }

    def is_before(self, commit: int, ordinal: int) -> bool:
        """Whether that change of the transaction with that commit has not been reported."""
        return self.value is None or (commit, ordinal) > (self.value, self.ordinal)

    def at(self, commit: int, ordinal: int) -> Self:
        """Behind that change."""
        return replace(self, value=commit, ordinal=ordinal)


def lsn_of(text: str) -> int:
    """A place in the log, of how PostgreSQL writes it: `16/B374D848`."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: 1 s, 2 s, 4 s … 60 s."""
    return timedelta(seconds=min(_LONGEST_BACKOFF, 2 ** min(max(failures - 1, 0), 6)))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _pending(stored: JsonObject) -> Pending:
    holders, since = stored.get("holders"), stored.get("since")
    return Pending(
        value=str(stored.get("value")),
        holders=tuple(map(str, holders)) if isinstance(holders, list) else (),
        since=float(since) if isinstance(since, int | float) else 0.0,
    )
