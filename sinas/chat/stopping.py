"""Stopping turns: asked for in their rows, and said to the workers that run them."""

from collections.abc import Sequence
from uuid import UUID

import orjson
from sqlalchemy import func, select, update

from sinas.chat.pushing import push_turn
from sinas.chat.reopening import reopen
from sinas.context import JOB_DONE_PREFIX, TURN_STOP_PREFIX, AppContext
from sinas.db.unit import Unit
from sinas.models import SUSPENDED_TURN, TERMINAL_TURN, Turn, TurnStatus


async def stop_turns(unit: Unit, executions: Sequence[UUID]) -> None:
    """Stop the turns whose message code of these executions sent, as `stop_turn` does."""
    statement = (
        select(Turn.id)
        .where(Turn.parent_execution_id.in_(executions), Turn.status.not_in(TERMINAL_TURN))
        .order_by(Turn.id)
    )
    for turn_id in (await unit.session.scalars(statement)).all():
        await stop_turn(unit, turn_id)


async def stop_delegated(context: AppContext, keys: Sequence[str]) -> None:
    """Stop the turns of sub-agents that tool calls with these keys wait for."""
    async with context.unit() as unit:
        statement = (
            select(Turn.id)
            .where(
                Turn.parent_call_id.in_([UUID(key) for key in keys]),
                Turn.status.not_in(TERMINAL_TURN),
            )
            .order_by(Turn.id)
        )
        for turn_id in (await unit.session.scalars(statement)).all():
            await stop_turn(unit, turn_id)


async def stop_batch(unit: Unit, batch_id: UUID) -> Sequence[UUID]:
    """Stop the turns of a batch that have not ended; which they were, in order.

    Those that never began end with `unit`: no worker is needed to tell that nothing happened.
    """
    own = select(Turn.id).where(Turn.batch_id == batch_id).order_by(Turn.id).with_for_update()
    waiting = own.where(Turn.status == TurnStatus.QUEUED, Turn.fence == 0).cte("waiting")
    statement = (
        update(Turn)
        .where(Turn.id.in_(select(waiting.c.id)))
        .values(
            status=TurnStatus.CANCELLED, stop_requested=True, finished_at=func.clock_timestamp()
        )
        .returning(Turn.id)
        .execution_options(synchronize_session=False)
    )
    unbegun = (await unit.session.scalars(statement)).all()
    ended = orjson.dumps({"status": TurnStatus.CANCELLED.value})
    for turn_id in unbegun:
        unit.publish(f"{JOB_DONE_PREFIX}{turn_id}", ended)
    live = own.where(Turn.status.not_in(TERMINAL_TURN))
    begun = (await unit.session.scalars(live)).all()
    for turn_id in begun:
        await stop_turn(unit, turn_id)
    return sorted([*unbegun, *begun])


async def stop_turn(unit: Unit, turn_id: UUID) -> TurnStatus | None:
    """Stop one turn once `unit` commits; its status before, None when there is no such turn.

    Nothing changes when it has ended. Else a worker ends it: the one that runs it at once, or
    the one that takes it. A turn that no worker has is queued once more for that, since
    whoever ends it also closes its open calls and its channel: a new one, where the old one has
    ended already for its followers.
    """
    turn = await unit.session.scalar(select(Turn).where(Turn.id == turn_id).with_for_update())
    if turn is None or turn.status in TERMINAL_TURN:
        return None if turn is None else turn.status
    before = turn.status
    turn.stop_requested = True
    if before is TurnStatus.QUEUED and turn.fence == 0:
        push_turn(unit, turn)  # it may not be due for days
    if before in SUSPENDED_TURN:
        await reopen(unit, turn)
        turn.status = TurnStatus.QUEUED
        turn.generation += 1
        turn.queued_at = func.clock_timestamp()
        push_turn(unit, turn)
    unit.publish(f"{TURN_STOP_PREFIX}{turn_id}", b"1")
    return before
