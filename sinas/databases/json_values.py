"""From the drivers' Python values to JSON."""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sinas.databases.base import Result
from sinas.kit.json_types import JsonObject, JsonValue


def json_rows(result: Result) -> list[JsonObject]:
    """Rows by column name."""
    return [{name: to_json(value) for name, value in row.items()} for row in result.dicts()]


def to_json(value: Any) -> JsonValue:  # noqa: PLR0911 - one way out for each kind of value
    """One value. Decimals and uuids become texts, intervals seconds, bytes hex.

    What JSON has no number for (NaN, infinity) becomes the text PostgreSQL writes for it.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _endless(value)
        case Decimal() | UUID():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case dict():
            return {str(key): to_json(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(each) for each in value]
        case _:
            return _other(value)


def _endless(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _other(value: Any) -> JsonValue:
    """Records of composite types, ranges, bit strings, addresses, and what is not known here."""
    if hasattr(value, "items"):
        return {str(key): to_json(each) for key, each in value.items()}
    if hasattr(value, "as_string"):
        return str(value.as_string())
    if hasattr(value, "lower_inc"):
        if value.isempty:
            return "empty"
        lower, upper = ("" if end is None else to_json(end) for end in (value.lower, value.upper))
        return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
    return str(value)
