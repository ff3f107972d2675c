"""Cron expressions in a time zone: the next moment one fires, also where clocks change.

cronsim parses them and walks wall-clock time, as Debian's cron understands both; which moments
a wall-clock time means in a zone is decided here. (cronsim's own zones lose the first run after
a change that is no whole hour, and name moments that have passed while a clock is set back.)

As in Debian's cron, an expression with fixed times (neither minute nor hour begins with `*`)
fires once for each: as soon as the clock has skipped it, and the first time where it comes
twice. Every other expression follows the clock: what is skipped does not fire, what comes
twice fires twice.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_FORM = f"the five fields '{' '.join(_FIELDS)}', such as '0 9 * * MON-FRI'"
_SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - wall-clock time of no zone
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class CronError(ValueError):
    """An expression or a zone that cannot be used; the text says why, without a subject."""


def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        CronError: There is none.
    """
    try:
        return ZoneInfo(name)
    # Unknown; no name but a path; a folder of zones.
    except (KeyError, ValueError, OSError) as error:
        raise CronError(
            f"'{name}' is no time zone; use an IANA name such as UTC or Europe/Berlin"
        ) from error


class Cron:
    """One expression of five fields. Days of the week are 0 to 7, Sunday is both, or names."""

    def __init__(self, expression: str) -> None:
        """Check the expression; its length is the caller's to limit.

        Raises:
            CronError: It has another form, a field is out of range, or it never fires.
        """
        fields = expression.split()
        if len(fields) != len(_FIELDS):
            raise CronError(f"must have {_FORM}; '{expression}' has {len(fields)}")
        self._expression = " ".join(fields)
        self._follows_clock = fields[0].startswith("*") or fields[1].startswith("*")
        try:
            self._next_wall(_SOME_DAY)
        except CronSimError as error:
            raise CronError(_fault(fields, str(error))) from error

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first moment after `moment` at which it fires, in UTC."""
        after = moment.astimezone(UTC)
        return self._by_clock(after, zone) if self._follows_clock else self._fixed(after, zone)

    def _next_wall(self, after: datetime) -> datetime:
        try:
            return next(CronSim(self._expression, after))
        except StopIteration:
            raise CronError(f"'{self._expression}' never fires: there is no such day") from None

    def _fixed(self, after: datetime, zone: ZoneInfo) -> datetime:
        wall = after.astimezone(zone).replace(tzinfo=None)
        while True:
            wall = self._next_wall(wall)
            moment = _moment_of(wall, zone)
            # Not so when the clock was set back and shows for the second time what fired already.
            if moment > after:
                return moment

    def _by_clock(self, after: datetime, zone: ZoneInfo) -> datetime:
        offset = _offset(after, zone)
        wall = (after + offset).replace(tzinfo=None)
        while True:
            moment = self._next_wall(wall).replace(tzinfo=UTC) - offset
            change = _first_change(after, moment, zone)
            if change is None:
                return moment
            after, offset = change, _offset(change, zone)
            # Just before, for what the clock shows at the change itself counts.
            wall = (change + offset - _SECOND).replace(tzinfo=None)


def _fault(fields: list[str], found: str) -> str:
    """What is wrong, from cronsim's "Bad <field>"."""
    name = found.removeprefix("Bad ")
    if name not in _FIELDS:
        return f"must have {_FORM}"
    position = _FIELDS.index(name)
    if name == "day-of-month":
        try:
            CronSim(" ".join([*fields[:3], "*", fields[4]]), _SOME_DAY)
        except CronSimError:
            pass
        else:
            return f"'{' '.join(fields)}' never fires: there is no such day"
    return f"has a bad {name}, '{fields[position]}'; it must have {_FORM}"


def _moment_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock shows `wall`: the first time, or as soon as it has skipped it."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # PEP 495: read with the offsets of before and after, a skipped time encloses the change.
    return _change_within(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), moment, zone)


def _first_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime | None:
    """The first moment after `low`, up to `high`, with another offset than at `low`."""
    offset = _offset(low, zone)
    while low < high:
        probe = min(low + _DAY, high)
        if _offset(probe, zone) != offset:
            return _change_within(low, probe, zone)
        low = probe
    return None


def _change_within(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    offset = _offset(low, zone)
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
    return high.replace(microsecond=0)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
