"""What Redis holds of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sinas.context import AppContext


async def jobs_in(context: AppContext, *lanes: str) -> int:
    """How many jobs the lanes of these keys hold, delayed and cancelled ones included."""
    return sum([await context.redis.zcard(lane) for lane in lanes])
