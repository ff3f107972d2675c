"""When a call is tried again, and how long is waited before. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from sinas.egress.client import TooManyRedirectsError, UnreachableError
from sinas.egress.urls import EgressUrlError
from sinas.errors import UpstreamError

# All attempts of a call and the waits between them.
MAX_TOTAL_SECONDS: Final = 300.0
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_MAX_EXPONENTIAL_SECONDS: Final = 30.0


def is_repeatable(operation: Mapping[str, Any]) -> bool:
    """Whether an operation that may have been done may be asked for again (RFC 9110 §9.2.2)."""
    told = operation.get("idempotent")
    return operation["method"] in _IDEMPOTENT if told is None else bool(told)


def is_worth_repeating(status: int) -> bool:
    """Whether an answer says that a later one may be another."""
    return status == 429 or 500 <= status < 600


def may_follow(error: UpstreamError, *, repeatable: bool) -> bool:
    """Whether another attempt may follow one that got no answer.

    When there was no connection, nothing can have been done.
    """
    if isinstance(error, EgressUrlError | TooManyRedirectsError):
        return False
    return repeatable or isinstance(error, UnreachableError)


def wait_seconds(backoff: str, attempt: int, retry_after: str | None, now: datetime) -> float:
    """How long to wait after `attempt`, the first being 1."""
    match backoff:
        case "exponential":
            least = min(0.5 * 2.0 ** (attempt - 1), _MAX_EXPONENTIAL_SECONDS)
        case "linear":
            least = float(attempt)
        case _:
            least = 0.0
    return max(least, _asked_seconds(retry_after, now))


def _asked_seconds(text: str | None, now: datetime) -> float:
    """What `Retry-After` asks for: seconds, or a date (RFC 9110 §10.2.3). Nonsense is nothing."""
    if text is None:
        return 0.0
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
