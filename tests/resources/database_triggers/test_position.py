"""Bookmarks and pauses, without a database."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sinas.resources.database_triggers.payload import jsonable, payload
from sinas.resources.database_triggers.position import Bookmark, Pending, backoff


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
        (float("inf"), "inf"),
        (timedelta(minutes=1), 60.0),
        ([Decimal(1), None, True], ["1", None, True]),
    ],
)
def test_values_are_made_json(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected


def test_json_columns_are_json() -> None:
    given = payload(
        table="a.b",
        operation="CHANGE",
        poll_column="c",
        rows=[{"c": "[1]", "d": "[1]"}],
        types={"c": "jsonb", "d": "text"},
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert given["rows"] == [{"c": [1], "d": "[1]"}]
    assert given["count"] == 1


def test_what_only_json_columns_can_hold_does_not_stop_the_trigger() -> None:
    given = payload(
        table="a.b",
        operation="CHANGE",
        poll_column="c",
        rows=[{"c": r'{"a\u0000": "\ud800 \ud83d\ude00"}'}],
        types={"c": "json"},
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert given["rows"] == [{"c": {"a\ufffd": "\ufffd \U0001f600"}}]
