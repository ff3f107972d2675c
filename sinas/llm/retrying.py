"""Asking a provider again that failed before it said anything.

Nobody sees it but the log: once a piece of an answer was shown, its failure is final.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import structlog

from sinas.errors import UpstreamError
from sinas.kit.time import utcnow
from sinas.llm.base import Delta, ModelRequest
from sinas.llm.failures import LostError, RefusedError

log = structlog.get_logger(__name__)

# Other 5xx say that it will not work the next time either.
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
# Some servers say with a 500 that their model cannot see; the turn asks without pictures then.
_MAYBE_BLIND: Final = 500
_FIRST_PAUSE_SECONDS: Final = 0.5


async def retried(
    ask: Callable[[ModelRequest], AsyncGenerator[Delta, None]], request: ModelRequest
) -> AsyncGenerator[Delta, None]:
    """What `ask` yields; it is asked again as `request` allows.

    Raises:
        UpstreamError: The last attempt's, or one after something was yielded that says anything.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        has_spoken = False
        try:
            async with aclosing(ask(request)) as deltas:
                async for delta in deltas:
                    has_spoken = has_spoken or delta != _SILENT
                    yield delta
            return
        except UpstreamError as error:
            elapsed = time.monotonic() - began
            pause = None if has_spoken else pause_before_retry(request, error, attempt, elapsed)
            if pause is None:
                raise
            log.warning(
                "llm.asked_again",
                provider=request.provider.name,
                model=request.model,
                status=error.status,
                reason=error.message,
                pause_seconds=round(pause, 3),
            )
        attempt += 1
        await asyncio.sleep(pause)


_SILENT: Final = Delta()


def pause_before_retry(
    request: ModelRequest, error: UpstreamError, attempt: int, elapsed: float
) -> float | None:
    """Seconds to wait before asking again; None when that is not to be done.

    Args:
        request: Says how often, and until when.
        error: How this attempt failed.
        attempt: Which one it was; 0 for the first.
        elapsed: Seconds since the first one began.
    """
    if attempt >= request.max_retries or not _is_passing(request, error):
        return None
    pause = _FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    if isinstance(error, RefusedError) and error.retry_after:
        asked = _seconds(error.retry_after)
        pause = pause if asked is None else max(asked, 0.0)
    return pause if elapsed + pause <= request.retry_seconds else None


def _is_passing(request: ModelRequest, error: UpstreamError) -> bool:
    """Whether asking again may help."""
    if isinstance(error, LostError):
        return True
    if isinstance(error, RefusedError) and error.details.get("code") == "insufficient_quota":
        return False
    if error.status == _MAYBE_BLIND and _has_pictures(request):
        return False
    return error.status in _PASSING


def _has_pictures(request: ModelRequest) -> bool:
    return any(
        isinstance(part, dict) and part.get("type") in ("image_url", "image")
        for message in request.messages
        for part in _parts(message.get("content"))
    )


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def _seconds(retry_after: str) -> float | None:
    """A Retry-After header: seconds, or a moment (RFC 9110, 10.2.3); None for anything else."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return _seconds_until(retry_after)
    return None if math.isnan(seconds) else seconds


def _seconds_until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - utcnow()).total_seconds()
