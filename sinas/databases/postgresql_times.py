"""Dates and times as PostgreSQL has them: more than Python's, which end with the year 9999.

asyncpg reads `infinity` as Python's last day, which people write as a date of its own, and fails
at what Python has no value for. So both directions are done here, on the numbers of the protocol:
days and microseconds since 2000. What Python lacks is a text, as PostgreSQL writes it in ISO style.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import asyncpg

INFINITY: Final = "infinity"
MINUS_INFINITY: Final = "-infinity"
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - PostgreSQL's, of times without a zone
_EPOCH_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = 86_400_000_000
_ENDS_OF_DAYS: Final = {2**31 - 1: INFINITY, -(2**31): MINUS_INFINITY}
_ENDS_OF_MOMENTS: Final = {2**63 - 1: INFINITY, -(2**63): MINUS_INFINITY}
_NUMBERS_OF_DAYS: Final = {text: number for number, text in _ENDS_OF_DAYS.items()}
_NUMBERS_OF_MOMENTS: Final = {text: number for number, text in _ENDS_OF_MOMENTS.items()}
# 400 years, after which the Gregorian calendar repeats.
_CYCLE_DAYS: Final = 146_097
_CYCLE_YEARS: Final = 400


async def read_times(connection: asyncpg.Connection) -> None:
    """Have the connection read and write dates and times by the functions of this module."""
    codecs: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "date": (_days, _date),
        "timestamp": (_microseconds, _timestamp),
        "timestamptz": (_microseconds_utc, _timestamptz),
        "time": (_time_of_day, _time),
    }
    for name, (encoder, decoder) in codecs.items():
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="tuple"
        )


def _date(numbers: tuple[int]) -> date | str:
    [days] = numbers
    if days in _ENDS_OF_DAYS:
        return _ENDS_OF_DAYS[days]
    try:
        return date.fromordinal(days + _EPOCH_DAY)
    except (ValueError, OverflowError):
        day, era = _beyond(days)
        return day + era


def _timestamp(numbers: tuple[int]) -> datetime | str:
    return _moment(numbers[0], _EPOCH, "")


def _timestamptz(numbers: tuple[int]) -> datetime | str:
    return _moment(numbers[0], _EPOCH_UTC, "+00:00")


def _moment(number: int, epoch: datetime, zone: str) -> datetime | str:
    if number in _ENDS_OF_MOMENTS:
        return _ENDS_OF_MOMENTS[number]
    try:
        return epoch + number * _MICROSECOND
    except OverflowError:
        days, rest = divmod(number, _DAY)
        day, era = _beyond(days)
        clock = (_EPOCH + rest * _MICROSECOND).time()
        return f"{day}T{clock.isoformat()}{zone}{era}"


def _time(numbers: tuple[int]) -> time | str:
    # The end of a day is a time of its own: 24:00.
    return "24:00:00" if numbers[0] == _DAY else (_EPOCH + numbers[0] * _MICROSECOND).time()


def _beyond(days: int) -> tuple[str, str]:
    """A day before the year 1 or after 9999 as text, and ` BC` for the former."""
    cycles, rest = divmod(days, _CYCLE_DAYS)
    within = date.fromordinal(rest + _EPOCH_DAY)
    year = within.year + cycles * _CYCLE_YEARS
    # There is no year 0: before 1 comes 1 BC.
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04}-{within:%m-%d}", era


def _days(value: date | str) -> tuple[int]:
    if isinstance(value, str):
        return (_NUMBERS_OF_DAYS[value],)
    return (value.toordinal() - _EPOCH_DAY,)


def _microseconds(value: datetime | str) -> tuple[int]:
    if isinstance(value, str):
        return (_NUMBERS_OF_MOMENTS[value],)
    return ((value - _EPOCH) // _MICROSECOND,)


def _microseconds_utc(value: datetime | str) -> tuple[int]:
    if isinstance(value, str):
        return (_NUMBERS_OF_MOMENTS[value],)
    return ((value - _EPOCH_UTC) // _MICROSECOND,)


def _time_of_day(value: time | str) -> tuple[int]:
    if isinstance(value, str):
        return (_DAY,)
    return ((datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH) // _MICROSECOND,)
