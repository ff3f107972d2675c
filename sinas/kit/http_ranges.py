"""Conditional and partial GET requests (RFC 9110, sections 13 and 14), for one range. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal, TypeAlias

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d*)[ \t]*-[ \t]*(\d*)[ \t]*", re.IGNORECASE)
_TAGS = re.compile(r'(?:W/)?"[^"]*"')
# Longer numbers are no positions in any file.
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Whole:
    """All of it: 200."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `last`, both included: 206."""

    first: int
    last: int


Outcome: TypeAlias = Whole | Part | Literal["not_modified", "failed", "unsatisfiable"]


def decide(headers: Mapping[str, str], etag: str, changed_at: datetime, size: int) -> Outcome:
    """What to answer a GET with these headers (names in lower case).

    Args:
        headers: Of the request.
        etag: The strong entity tag, with its quotes.
        changed_at: When it came to be what it is.
        size: In bytes.
    """
    changed_at = changed_at.replace(microsecond=0)
    wanted = headers.get("if-match")
    if wanted is not None:
        if not matches(wanted, etag, weak=False):
            return "failed"
    elif (since := _date(headers.get("if-unmodified-since"))) and changed_at > since:
        return "failed"
    known = headers.get("if-none-match")
    if known is not None:
        if matches(known, etag, weak=True):
            return "not_modified"
    elif (since := _date(headers.get("if-modified-since"))) and changed_at <= since:
        return "not_modified"
    if "range" not in headers or not _still_holds(headers.get("if-range"), etag, changed_at):
        return Whole()
    return _ranged(headers["range"], size)


def matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of tags, or `*`, names `etag`; a weak one only where `weak`."""
    if header.strip() == "*":
        return True
    tags = _TAGS.findall(header)
    return etag in tags or (weak and f"W/{etag}" in tags)


def http_date(moment: datetime) -> str:
    """As in `Last-Modified`. `moment` is in UTC."""
    return format_datetime(moment, usegmt=True)


def _ranged(header: str, size: int) -> Outcome:
    # Several ranges, and other units, are answered with all of it, as they may be.
    found = _RANGE.fullmatch(header.strip())
    if found is None or max(map(len, found.groups())) > _MAX_DIGITS:
        return Whole()
    first, last = found.groups()
    if not first:
        if not last:
            return Whole()
        length = min(int(last), size)
        return Part(size - length, size - 1) if length else "unsatisfiable"
    if last and int(last) < int(first):
        return Whole()
    if int(first) >= size:
        return "unsatisfiable"
    return Part(int(first), min(int(last), size - 1) if last else size - 1)


def _still_holds(header: str | None, etag: str, changed_at: datetime) -> bool:
    """Whether the part that a client asks for belongs to what it has already."""
    if header is None:
        return True
    if '"' in header:
        return header.strip() == etag
    return _date(header) == changed_at


def _date(header: str | None) -> datetime | None:
    """None for no date, which counts as no header."""
    if header is None:
        return None
    try:
        found = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else None
