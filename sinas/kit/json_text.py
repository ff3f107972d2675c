"""JSON text as every store and client of it can hold: strict, finite, not too deep."""

import json
import re

import orjson

from sinas.kit.json_types import JsonValue

MAX_DEPTH = 200
# orjson counts to 254 levels; wrapping the value makes it stop at ours, without a walk in Python.
_WRAPS = 254 - MAX_DEPTH
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class NotJsonError(ValueError):
    """The value cannot be written as JSON that everybody reads back alike.

    The message is the end of a sentence that starts with what the value is ("the input holds").
    """


def stored(value: object) -> str:
    """JSON as the database takes it, of what the platform made of somebody's input.

    Raises:
        OverflowError: It holds an integer beyond 64 bits, half a surrogate pair, or is nested too
            deeply. Everything else that orjson refuses is a mistake of the platform's own.
    """
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError as error:
        if any(word in str(error) for word in ("64-bit", "surrogates", "ecursion")):
            raise OverflowError(str(error)) from error
        raise


def encode(value: JsonValue) -> bytes:
    """UTF-8 JSON of `value`.

    Raises:
        NotJsonError: It holds NaN or an infinity, a NUL or half a surrogate pair (PostgreSQL
            stores neither), an integer beyond 64 bits, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise NotJsonError("holds a number that is not finite (NaN or infinity)") from None
    if "\\u0000" in text and _NUL.search(text):
        raise NotJsonError("holds a NUL character, which cannot be stored")
    wrapped: object = value
    for _ in range(_WRAPS):
        wrapped = [wrapped]
    try:
        return orjson.dumps(wrapped)[_WRAPS:-_WRAPS]
    except TypeError as error:
        reason = str(error)
        if "64-bit" in reason:
            raise NotJsonError("holds an integer beyond 64 bits; write it as a string") from None
        if "surrogates" in reason:
            raise NotJsonError("holds text that is not valid Unicode") from None
        raise _too_deep() from None


def _too_deep() -> NotJsonError:
    return NotJsonError(f"is nested deeper than {MAX_DEPTH} levels")


def storable(text: str) -> str:
    """`text` with what PostgreSQL cannot hold made visible: NUL as U+FFFD, surrogates escaped."""
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return clean.encode("utf-8", "backslashreplace").decode()
