"""Ids that are ordered by time."""

from datetime import timedelta

from sinas.kit.ids import uuid7, uuid7_floor
from sinas.kit.time import utcnow


def test_the_floor_of_a_moment_lies_between_what_was_made_before_and_after_it() -> None:
    now = utcnow()
    made = uuid7()
    assert uuid7_floor(now - timedelta(milliseconds=2)) < made
    assert made < uuid7_floor(utcnow() + timedelta(milliseconds=2))
    assert (uuid7_floor(now).version, uuid7_floor(now).variant) == (made.version, made.variant)
