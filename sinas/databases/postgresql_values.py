"""From JSON values to what asyncpg wants for the type of each parameter."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from sinas.databases.base import StatementError
from sinas.databases.postgresql_times import INFINITY, MINUS_INFINITY

_MAX_INTEGER_EXPONENT: Final = 20
# Digits before the point, and after it, of PostgreSQL's numeric (its manual, 8.1).
_MAX_NUMERIC_DIGITS: Final = 131_072
_MAX_NUMERIC_SCALE: Final = 16_383
_TRUE = frozenset({"true", "t", "1", "yes", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "off"})
_ENDLESS: Final = (INFINITY, MINUS_INFINITY)
_END_OF_DAY: Final = ("24:00", "24:00:00")


def encoded(types: Sequence[Any], names: Sequence[str], values: Mapping[str, Any]) -> list[Any]:
    """The arguments of a prepared statement; a missing value is NULL.

    Raises:
        StatementError: A value does not fit its type; the parameter is named.
    """
    return [
        _encoded(name, kind.name, values.get(name)) for name, kind in zip(names, types, strict=True)
    ]


def _encoded(name: str, kind: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        if kind.endswith("[]"):
            return _elements(kind.removesuffix("[]"), value)
        return _one(kind, value)
    except InvalidOperation as error:
        raise StatementError(f"The value of ':{name}' must be a number.") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise StatementError(
            f"The value of ':{name}' does not fit the type {kind}: {error}"
        ) from error


def _elements(kind: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError("a list is needed")
    return [
        _elements(kind, each)
        if isinstance(each, list)
        else None
        if each is None
        else _one(kind, each)
        for each in value
    ]


def _one(kind: str, value: Any) -> Any:
    convert = _CONVERT.get(kind)
    return value if convert is None else convert(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError("a whole number is needed")
    number = Decimal(value.strip()) if isinstance(value, str) else Decimal(value)
    # First: written out, 1e1000000 has a million digits.
    if number.is_finite() and number.adjusted() > _MAX_INTEGER_EXPONENT:
        raise OverflowError("the number is too large")
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError("a whole number is needed")
    return int(number)


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError("a number is needed")
    return Decimal(str(value).strip())


def _numeric(value: Any) -> Decimal:
    number = _number(value)
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int):  # else it is not finite
        # asyncpg would send another number.
        if number.adjusted() >= _MAX_NUMERIC_DIGITS:
            raise OverflowError("the number is too large")
        if -exponent > _MAX_NUMERIC_SCALE:
            raise OverflowError("the number has too many digits after the point")
    return number


def _float(value: Any) -> float:
    number = _number(value)
    nearest = float(number)
    if number.is_finite() and not math.isfinite(nearest):
        raise OverflowError("the number is too large")
    return nearest


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("true or false is needed")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _json(value: Any) -> str:
    """A text that is JSON is taken as it is; every other value is written as JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return json.dumps(value)
        return value
    return json.dumps(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else bytes.fromhex(str(value).removeprefix("\\x"))


def _date(value: Any) -> date | str:
    if isinstance(value, datetime):
        return value.date()
    if value in _ENDLESS:
        return str(value)
    return value if isinstance(value, date) else datetime.fromisoformat(str(value)).date()


def _naive(value: Any) -> datetime | str:
    if value in _ENDLESS:
        return str(value)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=None)


def _moment(value: Any) -> datetime | str:
    """A time without a zone is one in UTC."""
    if value in _ENDLESS:
        return str(value)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _time(value: Any) -> time | str:
    if value in _END_OF_DAY:
        return str(value)
    return value if isinstance(value, time) else time.fromisoformat(str(value))


def _time_with_zone(value: Any) -> time:
    return value if isinstance(value, time) else time.fromisoformat(str(value))


def _interval(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=_float(value))


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), _integer),
    "numeric": _numeric,
    **dict.fromkeys(("float4", "float8"), _float),
    "bool": _boolean,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "char", "unknown", "citext"), _text),
    **dict.fromkeys(("json", "jsonb"), _json),
    "bytea": _bytes,
    "date": _date,
    "timestamp": _naive,
    "timestamptz": _moment,
    "time": _time,
    "timetz": _time_with_zone,
    "interval": _interval,
    "uuid": _uuid,
}
