"""Tables of RFC 9110, sections 13 and 14."""

from datetime import UTC, datetime, timedelta

import pytest

from sinas.kit.http_ranges import Outcome, Part, Whole, decide, http_date

ETAG = '"abc"'
THEN = datetime(2026, 11, 26, 12, 0, 0, 500_000, tzinfo=UTC)
BEFORE, AFTER = http_date(THEN - timedelta(days=1)), http_date(THEN + timedelta(days=1))
AT = http_date(THEN)


def decided(headers: dict[str, str], size: int = 10) -> Outcome:
    return decide({k.replace("_", "-"): v for k, v in headers.items()}, ETAG, THEN, size)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", Part(0, 3)),
        ("bytes=0-0", Part(0, 0)),
        ("bytes=4-", Part(4, 9)),
        ("bytes=4-99", Part(4, 9)),
        ("bytes=-3", Part(7, 9)),
        ("bytes=-99", Part(0, 9)),
        ("BYTES = 1 - 2", Part(1, 2)),
        ("bytes=9-9", Part(9, 9)),
        ("bytes=10-", "unsatisfiable"),
        ("bytes=10-12", "unsatisfiable"),
        ("bytes=-0", "unsatisfiable"),
        # What is no range of ours counts as none.
        ("bytes=5-2", Whole()),
        ("bytes=-", Whole()),
        ("bytes=0-1,3-4", Whole()),
        ("lines=0-1", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=+1-2", Whole()),
        ("bytes=1-" + "9" * 400, Whole()),
        ("", Whole()),
    ],
)
def test_ranges(header: str, expected: Outcome) -> None:
    assert decided({"range": header}) == expected


def test_ranges_of_nothing() -> None:
    assert decided({"range": "bytes=0-"}, 0) == "unsatisfiable"
    assert decided({"range": "bytes=-5"}, 0) == "unsatisfiable"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"if_none_match": ETAG}, "not_modified"),
        ({"if_none_match": f'"x", W/{ETAG}'}, "not_modified"),
        ({"if_none_match": "*"}, "not_modified"),
        ({"if_none_match": '"x"'}, Whole()),
        ({"if_none_match": "abc"}, Whole()),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, Whole()),
        ({"if_modified_since": AFTER}, "not_modified"),
        ({"if_modified_since": AT}, "not_modified"),
        ({"if_modified_since": BEFORE}, Whole()),
        ({"if_modified_since": "yesterday"}, Whole()),
        ({"if_match": ETAG}, Whole()),
        ({"if_match": "*"}, Whole()),
        ({"if_match": '"x"'}, "failed"),
        ({"if_match": f"W/{ETAG}"}, "failed"),
        ({"if_unmodified_since": BEFORE}, "failed"),
        ({"if_unmodified_since": AT}, Whole()),
        ({"if_match": ETAG, "if_unmodified_since": BEFORE}, Whole()),
        ({"if_match": ETAG, "if_none_match": ETAG}, "not_modified"),
        ({"range": "bytes=0-1", "if_none_match": ETAG}, "not_modified"),
        ({"range": "bytes=0-1", "if_range": ETAG}, Part(0, 1)),
        ({"range": "bytes=0-1", "if_range": '"x"'}, Whole()),
        ({"range": "bytes=0-1", "if_range": f"W/{ETAG}"}, Whole()),
        ({"range": "bytes=0-1", "if_range": AT}, Part(0, 1)),
        ({"range": "bytes=0-1", "if_range": AFTER}, Whole()),
        ({"range": "bytes=0-1", "if_range": "nonsense"}, Whole()),
    ],
)
def test_conditions(headers: dict[str, str], expected: Outcome) -> None:
    assert decided(headers) == expected
