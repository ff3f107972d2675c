"""Attempts that turned out to be good are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sinas.auth.rate_limit import RateLimiter
from sinas.errors import RateLimitedError

if TYPE_CHECKING:
    from sinas.context import AppContext

KEY = "sinas:ratelimit:external:ip:x"


async def test_what_is_taken_back_does_not_count(context: AppContext) -> None:
    limits = RateLimiter(context.redis, 900)
    for _ in range(3):
        await limits.hit("external:ip:x", 1)
        await limits.take_back("external:ip:x")
    await limits.hit("external:ip:x", 1)
    with pytest.raises(RateLimitedError):
        await limits.hit("external:ip:x", 1)


async def test_a_window_that_has_ended_is_not_begun_without_an_end(context: AppContext) -> None:
    limits = RateLimiter(context.redis, 900)
    await limits.hit("external:ip:x", 1)
    await context.redis.delete(KEY)
    await limits.take_back("external:ip:x")
    assert await context.redis.exists(KEY) == 0
    await limits.hit("external:ip:x", 1)
    assert await context.redis.ttl(KEY) > 0
