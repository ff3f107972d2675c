"""Identifiers."""

import os
import time
from datetime import datetime
from uuid import UUID


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562 §5.7), so that new rows land at the end of an index."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def uuid7_floor(moment: datetime) -> UUID:
    """The smallest id `uuid7` makes at `moment`, to the millisecond: bounds a scan by age."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62)
