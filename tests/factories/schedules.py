"""Schedules."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from sinas.kit.time import utcnow
from sinas.models import Agent, Schedule, TargetType

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Function, User

_numbers = count(1)


async def make_schedule(
    context: AppContext, user: User, target: Function | Agent, **columns: Any
) -> Schedule:
    """A schedule of `user`, due in an hour and then daily."""
    is_agent = isinstance(target, Agent)
    given: dict[str, Any] = {
        "name": f"schedule-{next(_numbers)}",
        "schedule_type": TargetType.AGENT if is_agent else TargetType.FUNCTION,
        "cron_expression": "0 0 * * *",
        "timezone": "UTC",
        "content": "Good morning" if is_agent else None,
        "next_run": utcnow() + timedelta(hours=1),
        **columns,
    }
    schedule = Schedule(
        user_id=user.id,
        target_namespace=target.namespace,
        target_name=target.name,
        **given,
    )
    async with context.unit() as unit:
        unit.session.add(schedule)
    return schedule
