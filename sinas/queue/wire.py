"""What is on the wire in Redis: arq's own keys, JSON instead of pickle, and the wake-up list."""

from datetime import timedelta
from typing import Any

import orjson

JOB_TTL = timedelta(days=2)
WAKE_SUFFIX = ":wake"
# A wake-up token per job; more than this many waiting tokens tell a worker nothing new.
WAKE_LIMIT = 256


def dumps(value: dict[str, Any]) -> bytes:
    """Serialise a job for arq."""
    return orjson.dumps(value, default=str)


def loads(data: bytes) -> dict[str, Any]:
    """Parse what `dumps` wrote."""
    value: dict[str, Any] = orjson.loads(data)
    return value


def wake_key(queue: str) -> str:
    """List an idle worker of `queue` blocks on."""
    return f"{queue}{WAKE_SUFFIX}"
