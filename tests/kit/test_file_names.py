"""Names of files in the one form in which they are kept."""

import unicodedata

from sinas.kit.file_names import clean_name, lookup_name


def test_an_accent_is_one_however_it_is_written() -> None:
    assert clean_name("cafe\u0301") == lookup_name("cafe\u0301") == "caf\u00e9"


def test_what_is_no_name_is_not_worked_on() -> None:
    """Putting a long run of marks in order takes time with the square of its length."""
    longest = "\u1fb7" * 255  # three characters each when taken apart
    assert lookup_name(unicodedata.normalize("NFD", longest)) == longest
    endless = "e" + "\u0301\u0323" * 1000
    assert lookup_name(endless) is endless
