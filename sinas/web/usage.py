"""When an API key was last used: at most one write a minute per key, beside the request."""

import time
from uuid import UUID

from sqlalchemy import func, update

from sinas.context import AppContext
from sinas.models import ApiKey

_EVERY_SECONDS = 60.0


class UsageStamps:
    """Which keys this process stamped lately."""

    def __init__(self) -> None:
        self._stamped: dict[UUID, float] = {}

    def due(self, key_id: UUID) -> bool:
        """Whether a minute has passed; counts as stamped from then on."""
        now = time.monotonic()
        if now - self._stamped.get(key_id, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return False
        if len(self._stamped) > 10_000:
            self._stamped.clear()
        self._stamped[key_id] = now
        return True


async def stamp(context: AppContext, key_id: UUID) -> None:
    """Write the time of use, outside the request's transaction."""
    async with context.unit() as unit:
        await unit.session.execute(
            update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=func.now())
        )
