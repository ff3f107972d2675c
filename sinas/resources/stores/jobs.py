"""Upkeep: states that have expired are deleted."""

from datetime import timedelta

from sqlalchemy import delete, func, select

from sinas.context import AppContext
from sinas.models import State
from sinas.queue.job import Sweep

_BATCH = 500


async def purge(context: AppContext) -> None:
    """Delete expired states, a batch at a time, each what nobody else holds.

    They are invisible before that; this is for the room they take, and for the promise that
    what has expired is not kept.
    """
    expired = (
        select(State.id)
        .where(State.expires_at <= func.now())
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
        .cte("expired")  # once, whatever the plan
    )
    while True:
        async with context.unit() as unit:
            gone = await unit.session.scalars(
                delete(State).where(State.id.in_(select(expired.c.id))).returning(State.id)
            )
            if len(gone.all()) < _BATCH:
                return


SWEEPS = (Sweep(name="states.purge", every=timedelta(minutes=1), work=purge),)
