"""Files that are text: which are, and what they say."""

import re

from sinas.search.documents import DocumentError, storable

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decoded(data: bytes, most: int) -> tuple[str, bool]:
    """The text of a file, at most `most` characters, and whether that is all.

    Raises:
        DocumentError: It is not UTF-8, or binary.
    """
    # A character has four bytes at most; the rest need not be looked at.
    is_whole = len(data) <= most * 4
    try:
        text = data[: most * 4].decode("utf-8-sig", "strict" if is_whole else "ignore")
    except UnicodeDecodeError as error:
        raise DocumentError("It is not UTF-8 text.") from error
    if len(_CONTROL.findall(text[:4096])) > 8:
        raise DocumentError("It is binary, not text.")
    return storable(text[:most]), is_whole and len(text) <= most
