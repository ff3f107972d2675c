"""Messages that were sent into a turn which fails before any model has seen them.

Whoever sent one was told that it goes into that turn. It must not be lost with it: such messages
become a turn of their own, in the transaction that ends the other one.
"""

from uuid import UUID, uuid4

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import aliased

from sinas.chat.pushing import push_turn
from sinas.db.unit import Unit
from sinas.kit.ids import uuid7
from sinas.models import Chat, Message, Turn, TurnStatus


def newest_messages(turn: Turn, count: int) -> Select[UUID]:
    """SQL: the newest messages that users sent into a turn."""
    return _said(turn).order_by(Message.seq.desc()).limit(count)


def unseen_messages(turn: Turn) -> Select[UUID]:
    """SQL: those that no model can have seen, where no worker is left to tell.

    Sent into the turn since its last round began, as far as stored messages say when that was.
    """
    other = aliased(Message)
    answered = (
        select(func.max(other.seq))
        .where(other.turn_id == turn.id, other.role == "assistant")
        .scalar_subquery()
    )
    before = (
        select(func.coalesce(func.max(other.seq), 0))
        .where(other.turn_id == turn.id, other.role != "user", other.seq < answered)
        .scalar_subquery()
    )
    first = (
        select(func.min(other.seq))
        .where(other.turn_id == turn.id, other.role == "user")
        .scalar_subquery()
    )
    return _said(turn).where(Message.seq > before, Message.seq > first)


async def carry_over(unit: Unit, turn: Turn, messages: Select[UUID]) -> None:
    """Queue a turn for `messages` of an ended, locked one; none where there are no messages."""
    carried = (await unit.session.scalars(messages)).all()
    if not carried:
        return
    following = Turn(
        id=uuid7(),
        chat_id=turn.chat_id,
        user_id=turn.user_id,
        access=turn.access,
        parent_execution_id=turn.parent_execution_id,
        lane=turn.lane,
        channel_id=str(uuid4()),
        status=TurnStatus.QUEUED,
        # Nobody may follow it yet, and nobody's leaving may stop it.
        keep_alive=True,
        timeout_seconds=turn.timeout_seconds,
        overrides=turn.overrides,
        generation=0,
        traceparent=turn.traceparent,
    )
    # The chat's lock numbers its turns in the order they are committed in.
    await unit.session.execute(
        update(Chat)
        .where(Chat.id == turn.chat_id)
        .values(active_channel_id=following.channel_id, updated_at=func.clock_timestamp())
    )
    unit.session.add(following)
    # Its row must be there before messages point at it.
    await unit.session.flush()
    await unit.session.execute(
        update(Message)
        .where(Message.id.in_(carried))
        .values(turn_id=following.id)
        .execution_options(synchronize_session=False)
    )
    push_turn(unit, following)


def _said(turn: Turn) -> Select[UUID]:
    return select(Message.id).where(Message.turn_id == turn.id, Message.role == "user")
