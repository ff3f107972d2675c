"""Fixed-window rate limits in Redis, shared by all API processes."""

import contextlib

from redis.asyncio import Redis
from redis.exceptions import RedisError

from sinas.errors import RateLimitedError, UnavailableError

_PREFIX = "sinas:ratelimit:"
# Only in a window that is still there: made anew, the counter would have no end.
_TAKE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end"


class RateLimiter:
    """Counts attempts per key and window."""

    def __init__(self, redis: Redis, window_seconds: int) -> None:
        self._redis = redis
        self._window_seconds = window_seconds

    async def hit(self, key: str, maximum: int) -> None:
        """Count one attempt: one round trip, atomic.

        Raises:
            RateLimitedError: More than `maximum` in this window; says when the next one begins.
            UnavailableError: Redis does not answer. Guessing unlimited would be worse.
        """
        name = _PREFIX + key
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(name, 0, ex=self._window_seconds, nx=True)
                pipe.incr(name)
                pipe.ttl(name)
                _, count, seconds_left = await pipe.execute()
        except RedisError as error:
            raise UnavailableError("Requests cannot be counted right now; try again.") from error
        if count > maximum:
            raise RateLimitedError(
                "Too many requests. Please try again later.",
                retry_after_seconds=max(1, int(seconds_left)),
            )

    async def take_back(self, key: str) -> None:
        """Do not count an attempt after all, which turned out to be a good one."""
        # Counted for the rest of the window then: nothing that a good attempt should fail for.
        with contextlib.suppress(RedisError):
            await self._redis.register_script(_TAKE_BACK)(keys=[_PREFIX + key])
