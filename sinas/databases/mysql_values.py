"""Values of MySQL and MariaDB: from JSON to literals, and from the server's texts to Python.

aiomysql binds on the client, so values do become part of the text that is sent. They do so as
hexadecimal digits, as PyMySQL writes bytes: a text is `_utf8mb4 X'…'`. There is nothing to escape,
so neither `sql_mode` (NO_BACKSLASH_ESCAPES, ANSI_QUOTES) nor a character set can make a value end
its literal, and even one that is put where no value belongs stays digits.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from pymysql.constants import FIELD_TYPE
from pymysql.converters import escape_bytes, escape_float

from sinas.databases.base import StatementError
from sinas.databases.parameters import parse

# Digits of a DECIMAL; what is longer, a server silently turns into another number.
_MAX_DIGITS: Final = 65


def written(sql: str, values: Mapping[str, Any]) -> str:
    """A statement with its values; a missing one is NULL.

    Raises:
        StatementError: A value cannot be one; the parameter is named. Or the text cannot be sent.
    """
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise StatementError("The statement holds half a surrogate pair.") from None
    return parse(sql, "mysql").written(lambda name: literal(name, values.get(name)))


def literal(name: str, value: Any) -> str:
    """A JSON value, or bytes, as SQL. Lists and objects become JSON texts.

    Raises:
        StatementError: MySQL has no such value; the parameter is named.
    """
    try:
        return _literal(value)
    except UnicodeEncodeError:
        raise StatementError(f"The value of ':{name}' holds half a surrogate pair.") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise StatementError(f"The value of ':{name}' cannot be used: {error}") from error


def _literal(value: Any) -> str:  # noqa: PLR0911 - one way out for each kind of value
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return _integer(value)
        case float():
            if not math.isfinite(value):
                raise ValueError("MySQL has no NaN and no infinity")
            return _signed(escape_float(value))
        case str():
            return _text(value)
        case bytes():
            return str(escape_bytes(value))
        case dict() | list() | tuple():
            return _text(json.dumps(value, ensure_ascii=False, allow_nan=False))
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON value")


def _text(value: str) -> str:
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _integer(value: int) -> str:
    if abs(value) >= 10**_MAX_DIGITS:
        raise ValueError(f"a number has {_MAX_DIGITS} digits at most")
    return _signed(str(value))


def _signed(number: str) -> str:
    # After a minus in the statement, a second one could begin a comment.
    return f"({number})" if number.startswith("-") else number


def _moment(text: str) -> str:
    """A DATETIME; it knows no time zone."""
    return text.replace(" ", "T", 1)


def _instant(text: str) -> str:
    """A TIMESTAMP, which the session's time zone makes UTC."""
    return text if text.startswith("0000") else f"{_moment(text)}+00:00"


# What is not here stays a text, as the server writes it: decimals with all their digits, dates (a
# zero date, and 9999-12-31, are ordinary here), times (up to 838 hours); or bytes.
DECODERS: Final[dict[int, Callable[[Any], Any]]] = {
    **dict.fromkeys(
        (
            FIELD_TYPE.TINY,
            FIELD_TYPE.SHORT,
            FIELD_TYPE.INT24,
            FIELD_TYPE.LONG,
            FIELD_TYPE.LONGLONG,
            FIELD_TYPE.YEAR,
        ),
        int,
    ),
    **dict.fromkeys((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE), float),
    FIELD_TYPE.BIT: lambda raw: int.from_bytes(raw, "big"),
    FIELD_TYPE.JSON: json.loads,
    FIELD_TYPE.DATETIME: _moment,
    FIELD_TYPE.TIMESTAMP: _instant,
}
