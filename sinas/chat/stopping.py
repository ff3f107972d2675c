"""Stopping turns: asked for in their rows, and said to the workers that run them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import update

from sinas.context import TURN_STOP_PREFIX
from sinas.db.unit import Unit
from sinas.models import Turn, TurnStatus

_AT_WORK = (TurnStatus.QUEUED, TurnStatus.RUNNING)


async def stop_turns(unit: Unit, executions: Sequence[UUID]) -> None:
    """Stop the turns whose message code of these executions sent, once `unit` commits.

    Not those that wait for people: nothing of them runs.
    """
    statement = (
        update(Turn)
        .where(Turn.parent_execution_id.in_(executions), Turn.status.in_(_AT_WORK))
        .values(stop_requested=True)
        .returning(Turn.id)
        .execution_options(synchronize_session=False)
    )
    for turn_id in (await unit.session.scalars(statement)).all():
        unit.publish(f"{TURN_STOP_PREFIX}{turn_id}", b"1")
