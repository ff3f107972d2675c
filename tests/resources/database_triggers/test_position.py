"""Bookmarks and pauses, without a database."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sinas.resources.database_triggers.payload import jsonable
from sinas.resources.database_triggers.position import (
    Bookmark,
    LogPosition,
    Pending,
    backoff,
    lsn_of,
    lsn_text,
)


def test_a_bookmark_is_read_as_it_was_written() -> None:
    bookmark = Bookmark(
        value="2026-01-01",
        keys=('["1"]', '["2"]'),
        last_key='["2"]',
        pending=Pending(value="x", holders=("3/7",), since=1.5),
    )
    assert Bookmark.load(bookmark.dump()) == bookmark
    assert Bookmark.load(Bookmark(keys=None).dump()) == Bookmark(keys=None)


def test_keys_of_the_last_value_are_remembered() -> None:
    bookmark = Bookmark().after([("1", "a"), ("2", "b"), ("2", "c")])
    assert (bookmark.value, bookmark.keys, bookmark.last_key) == ("2", ("b", "c"), "c")
    assert bookmark.after([("2", "a")]).keys == ("b", "c", "a")
    assert bookmark.after([("3", "a")]).keys == ("a",)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10**6, 60)]
)
def test_pauses_double(failures: int, seconds: int) -> None:
    assert backoff(failures) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (b"\x00\xff", "00ff"),
        (float("inf"), "Infinity"),
        (timedelta(minutes=1), 60.0),
        ([Decimal(1), None, True], ["1", None, True]),
    ],
)
def test_values_are_made_json(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected


def test_what_only_json_columns_can_hold_does_not_stop_the_trigger() -> None:
    value = json.loads(r'{"a\u0000": "\ud800 \ud83d\ude00"}')
    assert jsonable(value) == {"a\ufffd": "\ufffd \U0001f600"}


@pytest.mark.parametrize("text", ["0/0", "0/16B3748", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
def test_places_in_the_log(text: str) -> None:
    assert lsn_text(lsn_of(text)) == text
    position = LogPosition(value=lsn_of(text), ordinal=3, publication=16385)
    assert LogPosition.load(position.dump()) == position


def test_what_is_behind_a_place_in_the_log() -> None:
    start = LogPosition(publication=1)
    assert start.is_before(0, 1)
    at = start.at(100, 2)
    assert [at.is_before(*each) for each in ((99, 9), (100, 2), (100, 3), (101, 1))] == [
        False,
        False,
        True,
        True,
    ]
