"""Regular expressions of users over texts."""

import pytest

from sinas.errors import BadRequestError
from sinas.resources.files.search_matches import Pattern

TEXT = "alpha\nBeta one\r\ngamma\ndelta\nbeta two\n"


async def lines(pattern: str, text: str = TEXT, *, literal: bool = False) -> list[int]:
    return [one.line for one in await Pattern(pattern, seconds=5, literal=literal).lines(text)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("beta", [2, 5]),
        ("(?-i:beta)", [5]),
        (r"^\w+$", [1, 3, 4]),
        (r"\bone\b", [2]),
        (r"\Ab", [2, 5]),
        ("GRÖSSE|größe", []),
        ("nothing", []),
        ("alpha\\nBeta", []),
    ],
)
async def test_finds_lines(pattern: str, expected: list[int]) -> None:
    assert await lines(pattern) == expected


async def test_a_match_shows_what_is_around_it() -> None:
    (first, second) = await Pattern("beta", seconds=5).lines(TEXT)
    assert (first.text, first.context) == ("Beta one", ("alpha", "Beta one", "gamma", "delta"))
    assert (second.text, second.context) == ("beta two", ("gamma", "delta", "beta two"))


async def test_an_accent_is_one_however_it_is_written() -> None:
    text = "caf\u00e9\ncafe\u0301\ncafe\n"
    for query in ("caf\u00e9", "cafe\u0301", "^caf.$", "^caf[\u00e8-\u00ea]$"):
        found = await lines(query, text)
        assert found == ([1, 2, 3] if "." in query else [1, 2])
        assert found[:2] == [1, 2]
    assert Pattern("cafe\u0301", seconds=5).finds("caf\u00e9.txt")


async def test_endless_marks_are_searched_as_they_are() -> None:
    """Putting them in order would take hours."""
    text = "e" + "\u0301\u0323" * 500_000 + "\ncaf\u00e9\n"
    assert await lines("caf\u00e9", text) == [2]


async def test_literally() -> None:
    assert await lines("a.b(", "axb(\na.b(c", literal=True) == [2]


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "[",
        "*a",
        r"(a)\1",
        "(?=a)",
        "((a{1000}){1000}){1000}",  # gigabytes, when Python compiles it
        "(?R)",
        "\ud800",
    ],
)
def test_no_regular_expression(pattern: str) -> None:
    with pytest.raises(BadRequestError, match="RE2") as caught:
        Pattern(pattern, seconds=5)
    assert caught.value.errors[0].field == "query"


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(.*?,){30}x", "(?:a?){30}a{30}b"])
async def test_what_would_be_a_catastrophe_elsewhere(pattern: str) -> None:
    # With backtracking, none of these ends.
    assert await lines(pattern, ("a" * 60 + "!\n" + "a," * 20 + "\n") * 1000) == []


async def test_the_time_is_over() -> None:
    pattern = Pattern("nothing", seconds=0)
    with pytest.raises(BadRequestError, match="takes longer than 0 seconds"):
        await pattern.lines(TEXT)


async def test_lines_and_matches_are_not_without_end() -> None:
    found = await Pattern("x", seconds=5).lines("x" * 10_000 + "\n" + "x\n" * 1000)
    assert len(found) == 100
    assert len(found[0].text) == 2000
