"""Time, always aware and in UTC."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)
