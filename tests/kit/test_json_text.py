"""JSON that every store can hold."""

from typing import Any

import pytest

from sinas.kit.json_text import MAX_DEPTH, NotJsonError, encode, storable


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"v": value}
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, 2.5, True, "\N{GRINNING FACE}"]}, '{"a":[1,2.5,true,"\N{GRINNING FACE}"]}'),
        ("\\u0000", '"\\\\u0000"'),
        (2**64 - 1, "18446744073709551615"),
    ],
)
def test_what_can_be_kept_is_written(value: Any, text: str) -> None:
    assert encode(value).decode() == text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": float("nan")}, "finite"),
        (float("-inf"), "finite"),
        ({"a\x00": 1}, "NUL"),
        (["\\\x00"], "NUL"),
        (2**64, "64 bits"),
        ("\ud800", "Unicode"),
        (nested(MAX_DEPTH + 1), "200 levels"),
        (nested(5_000), "200 levels"),
    ],
)
def test_what_cannot_be_kept_is_refused(value: Any, words: str) -> None:
    with pytest.raises(NotJsonError, match=words):
        encode(value)


def test_the_deepest_allowed_value_is_allowed() -> None:
    assert encode(nested(MAX_DEPTH)).count(b"{") == MAX_DEPTH


def test_text_becomes_storable_and_stays_readable() -> None:
    assert storable("a\x00b\ud800c") == "a\N{REPLACEMENT CHARACTER}b\\ud800c"
