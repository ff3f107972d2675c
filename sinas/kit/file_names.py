"""Names of files: which may be stored, and what becomes of one that is taken. Pure."""

import re
import secrets
import unicodedata
from typing import Final

MAX_CHARS: Final = 255
# Controls, and what turns the direction of the text around it: `exe.txt` can be made of `txt.exe`.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_name(text: str) -> str:
    """The name in the one form (NFC) in which it is stored and looked up.

    Raises:
        ValueError: It would be a path, cannot be shown, or is too long.
    """
    name = unicodedata.normalize("NFC", text)
    if "/" in name or "\\" in name:
        raise ValueError("may not contain '/' or '\\'; files have no folders")
    if _UNSAFE.search(name):
        raise ValueError("may not contain control characters, or such that turn text around")
    if not name.strip(" ."):
        raise ValueError("must be more than dots and spaces")
    if len(name) > MAX_CHARS:
        raise ValueError(f"may have at most {MAX_CHARS} characters")
    return name


def lookup_name(text: str) -> str:
    """A name in a path, in the form in which one is stored; what is too long for one, as it is."""
    # Four characters at most become one. The order of a run of marks takes its length squared.
    if len(text) > 4 * MAX_CHARS:
        return text
    return unicodedata.normalize("NFC", text)


def another_name(name: str) -> str:
    """A name for a file whose own is taken: `{stem}_{8 hex digits}.{extension}`."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > 20:
        stem, dot, extension = name, "", ""
    ending = f"_{secrets.token_hex(4)}{dot}{extension}"
    return stem[: MAX_CHARS - len(ending)] + ending
