"""Chains of waiting turns: locking them from a turn upward, and giving them new channels.

Turns are locked before chats, and a chain's turns before any of its chats: a round above that
delegates to one of these chats holds its own turn and then waits for the chat.
"""

from uuid import UUID, uuid4

from sqlalchemy import select, update

from sinas.db.unit import Unit
from sinas.models import Chat, ToolCall, Turn, TurnStatus


async def locked_call(unit: Unit, call_key: UUID) -> tuple[Turn, ToolCall] | None:
    """A call and its turn, locked; None when there is no such call."""
    session = unit.session
    turn = await session.scalar(
        select(Turn)
        .join(ToolCall, ToolCall.turn_id == Turn.id)
        .where(ToolCall.id == call_key)
        .with_for_update(of=Turn)
        .execution_options(populate_existing=True)
    )
    call = await session.get(ToolCall, call_key, populate_existing=True)
    return None if turn is None or call is None else (turn, call)


async def turn_above(unit: Unit, turn: Turn) -> Turn | None:
    """The turn that waits for this one, locked; None for a person's message."""
    if turn.parent_call_id is None:
        return None
    found = await locked_call(unit, turn.parent_call_id)
    return None if found is None else found[0]


async def reopen(unit: Unit, turn: Turn) -> None:
    """Give a locked turn that waits for people, and those above it, channels to go on with.

    Their old ones have ended for those who followed them.
    """
    if (above := await turn_above(unit, turn)) is not None:
        await reopen(unit, above)
    if turn.status is TurnStatus.WAITING and turn.channel_done:
        turn.past_channels = [*turn.past_channels, turn.channel_id]
        turn.channel_id = str(uuid4())
        turn.channel_done = False
        await unit.session.execute(
            update(Chat).where(Chat.id == turn.chat_id).values(active_channel_id=turn.channel_id)
        )
