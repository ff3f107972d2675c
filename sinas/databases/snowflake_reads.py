"""What a read of Snowflake may not be, beside what its server says of the statement."""

import re
from typing import Final

from sinas.databases.base import ReadOnlyError
from sinas.databases.parameters import Parsed, bare

# The families of statement types that only look; the last three digits tell their members apart.
_SELECT: Final = 0x1000
_EXPLAIN: Final = 0x2000
_FAMILY: Final = 0xF000
_SHOW: Final = 0x4400
_DESCRIBE: Final = 0x4500
_CLASS: Final = 0xFF00
# Asked for besides: CALL may have no type of its own (docs/decisions/0030).
_WORDS: Final = frozenset(["select", "with", "show", "describe", "desc", "explain"])
# It is called by what follows, with its caller's rights, and needs no right to be made.
_PROCEDURE: Final = re.compile(r"\bas\s+procedure\s*\(", re.IGNORECASE)
# Functions that cancel, resume and send belong to these, and are called by SELECT.
_ACTING: Final = re.compile(r"\bsystem\$(?!typeof\b)", re.IGNORECASE)
# A function whose name is in a text, where escapes hide it, or in a parameter.
_HIDDEN: Final = re.compile(r"\bidentifier\s*\([^()]*\)\s*\(", re.IGNORECASE)


def check_text(parsed: Parsed, sql: str) -> None:
    """Refuse what may act although the server calls it a SELECT.

    Raises:
        ReadOnlyError: The statement calls a procedure, or a function that may act.
    """
    without_texts = bare(sql, "snowflake")
    if parsed.words[0] == "with" and _PROCEDURE.search(without_texts):
        raise ReadOnlyError("WITH … AS PROCEDURE calls what may act: this only reads.")
    if _ACTING.search(sql):
        raise ReadOnlyError("SYSTEM$… functions may act: this only reads.")
    if _HIDDEN.search(without_texts):
        raise ReadOnlyError("IDENTIFIER(…) may name a function that acts: this only reads.")


def check_kind(parsed: Parsed, kind: int) -> None:
    """Refuse what the server, or its first word, does not call a statement that looks.

    Raises:
        ReadOnlyError: It is something else.
    """
    first = parsed.words[0]
    is_looking = kind & _FAMILY in (_SELECT, _EXPLAIN) or kind & _CLASS in (_SHOW, _DESCRIBE)
    if not is_looking or first not in _WORDS:
        raise ReadOnlyError(f"{first.upper()} is no statement that only looks: this only reads.")
