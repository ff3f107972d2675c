"""Parts of statements that no parameter can stand for: names, types, defaults. Pure.

What is not known to be harmless is refused: none of it goes into a statement as it was given.
"""

import re
from typing import Any

from sinas.databases.base import StatementError

_MAX_NAME_BYTES = 63
_TYPES = (
    "smallint|integer|int|int2|int4|int8|bigint|smallserial|serial|bigserial|real|float4|float8"
    "|double precision|boolean|bool|text|citext|uuid|json|jsonb|bytea|date|money|inet|cidr|macaddr"
    "|point|xml|tsvector|tsquery|interval|int4range|int8range|numrange|daterange|tsrange|tstzrange"
)
_SIZED = "numeric|decimal|varchar|character varying|char|character|bit|bit varying|varbit|vector"
_TIMED = "timestamp|time"
_TYPE = re.compile(
    rf"(?:(?:{_TYPES})"
    rf"|(?:{_SIZED})(?:\s*\(\s*\d{{1,5}}\s*(?:,\s*-?\d{{1,4}}\s*)?\))?"
    rf"|timestamptz(?:\s*\(\s*[0-6]\s*\))?"
    rf"|(?:{_TIMED})(?:\s*\(\s*[0-6]\s*\))?(?:\s+with(?:out)?\s+time\s+zone)?"
    r")(?:\s*\[\s*\]){0,3}",
    re.IGNORECASE,
)
_DEFAULT = re.compile(
    r"[+-]?\d+(?:\.\d+)?|true|false|null|'(?:[^'\\]|'')*'"
    r"|now\(\)|current_timestamp|current_date|current_time|localtimestamp"
    r"|gen_random_uuid\(\)|uuidv7\(\)|clock_timestamp\(\)",
    re.IGNORECASE,
)
_READS = frozenset({"select", "with", "values", "table"})


def quoted(name: str) -> str:
    """A name as an identifier.

    Raises:
        StatementError: Empty, with a NUL, or longer than PostgreSQL keeps.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise StatementError("A name holds half a surrogate pair.") from None
    if not name or "\x00" in name or size > _MAX_NAME_BYTES:
        raise StatementError(f"A name must have 1 to {_MAX_NAME_BYTES} bytes and no NUL.")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """A name in its schema."""
    return f"{quoted(schema)}.{quoted(name)}"


def checked_type(text: str) -> str:
    """A column's type.

    Raises:
        StatementError: It is none of the known ones.
    """
    plain = text.strip()
    if not _TYPE.fullmatch(plain):
        raise StatementError(
            f"'{plain[:60]}' is no column type that is known here, such as integer, "
            "numeric(10,2), varchar(50), timestamptz, jsonb or text[]."
        )
    return plain


def checked_default(value: Any) -> str:
    """A column's default as SQL: a constant, or one of a few functions.

    Raises:
        StatementError: It is anything else.
    """
    plain = str(value).lower() if isinstance(value, bool) else str(value).strip()
    if not _DEFAULT.fullmatch(plain):
        raise StatementError(
            f"'{plain[:60]}' is no default that is known here: a number, true, false, null, a text "
            "in single quotes without backslashes, now(), current_date or gen_random_uuid()."
        )
    return plain


def checked_select(sql: str, first_word: str) -> str:
    """What a view selects; that it is one statement is for whoever runs it to check.

    Raises:
        StatementError: It does not begin as a statement that only reads does.
    """
    if first_word not in _READS:
        raise StatementError("A view's sql must begin with SELECT, WITH, VALUES or TABLE.")
    return sql
