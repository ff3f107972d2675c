"""Upkeep of sign-ins."""

from datetime import timedelta

from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.queue.job import Sweep
from sinas.resources.auth.repository import SignIns

_KEEP_EXPIRED = timedelta(days=1)


async def forget_expired(context: AppContext) -> None:
    """Delete one-time codes and refresh tokens a day after they expired."""
    async with context.unit() as unit:
        await SignIns(unit.session).forget_before(utcnow() - _KEEP_EXPIRED)


FORGET_EXPIRED = Sweep(name="auth.forget_expired", every=timedelta(hours=1), work=forget_expired)
