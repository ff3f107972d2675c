"""Cron expressions: five fields, cron's weekdays, and clocks that change."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from sinas.kit.cron import Cron, CronError, time_zone

MINUTE = timedelta(minutes=1)


def runs(expression: str, zone: str, after: str) -> Iterator[datetime]:
    """Moments in UTC, each found from the one before, as the scheduler does it."""
    cron, where = Cron(expression), time_zone(zone)
    moment = datetime.fromisoformat(after).replace(tzinfo=where)
    while True:
        moment = cron.next_after(moment, where)
        yield moment


def clock(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next runs as the zone's clock shows them."""
    found = islice(runs(expression, zone, after), count)
    return [m.astimezone(time_zone(zone)).isoformat(timespec="minutes") for m in found]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00",
            ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        (
            "0 2,3,4 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00",
            ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00", "2026-03-30T02:00+02:00"],
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:30",
            ["2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"],
        ),
        (
            "*/20 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00",
            ["2026-03-30T02:00+02:00", "2026-03-30T02:20+02:00", "2026-03-30T02:40+02:00"],
        ),
        # Berlin, 25 October 2026: 03:00 becomes 02:00.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00", "2026-10-27T02:30+01:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T01:45",
            [
                "2026-10-25T02:00+02:00",
                "2026-10-25T02:30+02:00",
                "2026-10-25T02:00+01:00",
                "2026-10-25T02:30+01:00",
                "2026-10-25T03:00+01:00",
            ],
        ),
        (
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:30",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T04:00+01:00"],
        ),
        # New York, 8 March and 1 November 2026.
        (
            "15 2 * * *",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T03:00-04:00", "2026-03-09T02:15-04:00"],
        ),
        (
            "15 1 * * *",
            "America/New_York",
            "2026-10-31T12:00",
            ["2026-11-01T01:15-04:00", "2026-11-02T01:15-05:00"],
        ),
        # Lord Howe changes by half an hour: 4 October and 5 April 2026.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00",
            ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
        ),
        (
            "* 5 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00",
            ["2026-10-04T05:00+11:00", "2026-10-04T05:01+11:00"],
        ),
        (
            "*/15 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-05T01:20",
            [
                "2026-04-05T01:30+11:00",
                "2026-04-05T01:45+11:00",
                "2026-04-05T01:30+10:30",
                "2026-04-05T01:45+10:30",
                "2026-04-06T01:00+10:30",
            ],
        ),
        # No change at all.
        (
            "30 2 * * *",
            "Asia/Kolkata",
            "2026-03-28T12:00",
            ["2026-03-29T02:30+05:30", "2026-03-30T02:30+05:30"],
        ),
        # A whole day that never was: Samoa went from 29 to 31 December 2011.
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T06:00",
            ["2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"],
        ),
        # Leap days only, over eight changes of the clock each.
        (
            "0 12 29 2 *",
            "Europe/Berlin",
            "2026-01-01T00:00",
            ["2028-02-29T12:00+01:00", "2032-02-29T12:00+01:00"],
        ),
        (
            "* 12 29 2 *",
            "Europe/Berlin",
            "2026-07-01T00:00",
            ["2028-02-29T12:00+01:00", "2028-02-29T12:01+01:00"],
        ),
        ("0 9 L * *", "UTC", "2027-02-01T00:00", ["2027-02-28T09:00+00:00"]),
    ],
)
def test_when_it_fires(expression: str, zone: str, after: str, expected: list[str]) -> None:
    assert clock(expression, zone, after, len(expected)) == expected


def test_every_minute_while_a_clock_is_set_back() -> None:
    found = list(islice(runs("* * * * *", "Europe/Berlin", "2026-10-25T01:30"), 300))
    first = datetime(2026, 10, 24, 23, 31, tzinfo=UTC)
    assert found == [first + number * MINUTE for number in range(300)]


def test_a_fixed_time_is_not_repeated_when_asked_in_the_repeated_hour() -> None:
    zone = time_zone("Europe/Berlin")
    second_time = datetime(2026, 10, 25, 2, 20, tzinfo=zone, fold=1)
    found = Cron("45 2 * * *").next_after(second_time, zone)
    assert found == datetime(2026, 10, 26, 2, 45, tzinfo=zone)


@pytest.mark.parametrize(
    ("zone", "eve"),
    [
        ("Europe/Berlin", "2026-03-28"),
        ("Europe/Berlin", "2026-10-24"),
        ("America/New_York", "2026-03-07"),
        ("America/New_York", "2026-10-31"),
        ("Australia/Lord_Howe", "2026-04-04"),
        ("Australia/Lord_Howe", "2026-10-03"),
    ],
)
@pytest.mark.parametrize(
    ("expression", "minutes", "hours"),
    [
        ("*/7 * * * *", range(0, 60, 7), range(24)),
        ("50 * * * *", [50], range(24)),
        ("*/30 1-3 * * *", [0, 30], [1, 2, 3]),
        ("5,35 */2 * * *", [5, 35], range(0, 24, 2)),
    ],
)
def test_what_follows_the_clock_fires_whenever_the_clock_shows_it(
    zone: str, eve: str, expression: str, minutes: Sequence[int], hours: Sequence[int]
) -> None:
    where = time_zone(zone)
    start = datetime.fromisoformat(eve).replace(tzinfo=where).astimezone(UTC)
    moments = [start + number * MINUTE for number in range(1, 3 * 24 * 60)]
    local = [(moment, moment.astimezone(where)) for moment in moments]
    expected = [m for m, shows in local if shows.minute in minutes and shows.hour in hours]
    assert list(islice(runs(expression, zone, eve), len(expected))) == expected


@pytest.mark.parametrize(
    ("field", "day"), [("0", 0), ("7", 0), ("SUN", 0), ("sun", 0), ("1", 1), ("MON", 1), ("6", 6)]
)
def test_weekdays_are_crons(field: str, day: int) -> None:
    sunday = datetime(2026, 1, 4, tzinfo=UTC)
    found = Cron(f"0 0 * * {field}").next_after(sunday - MINUTE, time_zone("UTC"))
    assert found == sunday + timedelta(days=day)


def test_weekday_ranges_reach_sunday() -> None:
    found = islice(runs("0 0 * * FRI-7", "UTC", "2026-01-05T00:00"), 4)
    assert [f"{moment:%a}" for moment in found] == ["Fri", "Sat", "Sun", "Fri"]


def test_day_and_weekday_are_alternatives_unless_one_has_a_star() -> None:
    either = islice(runs("0 0 13 * FRI", "UTC", "2026-02-01T00:00"), 3)
    assert [f"{moment:%d %a}" for moment in either] == ["06 Fri", "13 Fri", "20 Fri"]
    both = islice(runs("0 0 */7 * FRI", "UTC", "2026-02-01T00:00"), 2)
    assert [f"{moment:%m-%d %a}" for moment in both] == ["05-01 Fri", "05-08 Fri"]


def test_seconds_do_not_count() -> None:
    moment = datetime(2026, 1, 1, 11, 59, 59, 999_999, tzinfo=UTC)
    noon = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    cron = Cron("* * * * *")
    assert cron.next_after(moment, time_zone("UTC")) == noon
    assert cron.next_after(noon, time_zone("UTC")) == noon + MINUTE
    assert cron.next_after(noon + timedelta(microseconds=1), time_zone("UTC")) == noon + MINUTE


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "has 0"),
        ("@hourly", "has 1"),
        ("* * * *", "has 4"),
        ("0 * * * * *", "has 6"),
        ("60 * * * *", "bad minute, '60'"),
        ("* 24 * * *", "bad hour, '24'"),
        ("* * 0 * *", "bad day-of-month, '0'"),
        ("* * * 13 *", "bad month, '13'"),
        ("* * * * 8", "bad day-of-week, '8'"),
        ("* * * * someday", "bad day-of-week, 'someday'"),
        ("*/0 * * * *", "bad minute"),
        ("9-5 * * * *", "bad minute"),
        ("1,,2 * * * *", "bad minute"),
        ("٣ * * * *", "bad minute"),
        ("-1 * * * *", "bad minute"),
        ("0 0 31 2 *", "'0 0 31 2 *' never fires"),
        ("0 0 30,31 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 */5 2 MON#5", "never fires"),
    ],
)
def test_what_is_no_expression(expression: str, said: str) -> None:
    with pytest.raises(CronError) as caught:
        Cron(expression)
    assert said in str(caught.value)
    assert "never" in said or "minute hour day-of-month month day-of-week" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Base", "Europe", "europe/berlin", "../etc/passwd", "/etc/localtime", "a\0b", "é"],
)
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(CronError, match="no time zone"):
        time_zone(name)
