"""Turns without a worker: what they wait for, how it is settled, and how they go on.

A turn is suspended when calls of its round end elsewhere: people decide or answer, sub-agents
work. Whoever settles the last of them queues the turn. What a sub-agent waits for, the turns
above it wait for too: `waiting` and `delegated` travel up, and so does going on.

Locks are always taken from a turn upward to its parents, so that no two settlements can wait
for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import orjson
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import aliased

from sinas.chat import events
from sinas.chat.channel import ChannelWriter
from sinas.chat.prompt import result_text
from sinas.chat.pushing import push_turn
from sinas.context import JOB_DONE_PREFIX, AppContext
from sinas.db.unit import Unit
from sinas.kit.ids import uuid7
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonValue
from sinas.models import (
    SUSPENDED_TURN,
    TERMINAL_TOOL_CALL,
    Chat,
    Message,
    ToolCall,
    ToolCallStatus,
    Turn,
    TurnStatus,
)

_FOR_PEOPLE = (ToolCallStatus.AWAITING_APPROVAL, ToolCallStatus.AWAITING_ANSWER)
_ELSEWHERE = (*_FOR_PEOPLE, ToolCallStatus.DELEGATED)
_child = aliased(Turn)


@dataclass(frozen=True, slots=True)
class Suspensions:
    """Settling calls, within one transaction."""

    app: AppContext
    unit: Unit

    async def locked(self, call_key: UUID) -> tuple[Turn, ToolCall] | None:
        """A call and its turn, locked; None when there is no such call."""
        session = self.unit.session
        turn = await session.scalar(
            select(Turn)
            .join(ToolCall, ToolCall.turn_id == Turn.id)
            .where(ToolCall.id == call_key)
            .with_for_update(of=Turn)
            .execution_options(populate_existing=True)
        )
        call = await session.get(ToolCall, call_key, populate_existing=True)
        return None if turn is None or call is None else (turn, call)

    async def settle(self, call_key: UUID, status: ToolCallStatus, value: JsonValue) -> bool:
        """Give a call its one result, and queue its turn if that was the last one it waits for.

        False when the call has a result already, or is gone with its chat.
        """
        found = await self.locked(call_key)
        if found is None or found[1].status in TERMINAL_TOOL_CALL:
            return False
        turn, call = found
        await self.write_result(call, status, value)
        await self.advance(turn)
        return True

    async def write_result(self, call: ToolCall, status: ToolCallStatus, value: JsonValue) -> None:
        """Store what the model gets of a call whose turn is locked."""
        call.status = status
        call.result = value
        call.finished_at = func.clock_timestamp()
        limit = self.app.settings.chat.tool_result_context_max_size
        await self.unit.session.execute(
            insert(Message).values(
                id=uuid7(),
                chat_id=call.chat_id,
                turn_id=call.turn_id,
                role="tool",
                content=storable(result_text(value, limit)),
                tool_call_id=call.call_id,
                name=call.name,
            )
        )

    async def reopen(self, turn: Turn) -> None:
        """Give a turn that waits for people, and those above it, channels to go on with.

        Their old ones have ended for those who followed them.
        """
        if turn.status is TurnStatus.WAITING and turn.channel_done:
            turn.past_channels = [*turn.past_channels, turn.channel_id]
            turn.channel_id = str(uuid4())
            turn.channel_done = False
            await self.unit.session.execute(
                update(Chat)
                .where(Chat.id == turn.chat_id)
                .values(active_channel_id=turn.channel_id)
            )
        if (parent := await self._parent(turn)) is not None:
            await self.reopen(parent)

    async def advance(self, turn: Turn) -> None:
        """Bring a locked turn to the state that its open calls leave it in."""
        if turn.status not in SUSPENDED_TURN:
            return  # a worker has it and will see for itself
        before = turn.status
        # The call that was just settled must count.
        await self.unit.session.flush()
        after = await self.state_of(turn.id)
        if after is None:
            await self.reopen(turn)
            turn.status = TurnStatus.QUEUED
            turn.generation += 1
            turn.queued_at = func.clock_timestamp()
            push_turn(self.unit, turn)
        elif after is before:
            return
        elif after is TurnStatus.WAITING:
            turn.status = TurnStatus.WAITING
            turn.channel_done = True
            self.unit.after_commit(_Parking(self.app, turn.id, turn.channel_id, turn.fence).say)
        else:
            await self.reopen(turn)
            turn.status = TurnStatus.DELEGATED
        await self.advance_parent(turn)

    async def advance_parent(self, turn: Turn) -> None:
        """Do the same for the turn that waits for this one, if one does."""
        if (parent := await self._parent(turn)) is not None:
            await self.advance(parent)

    async def state_of(self, turn_id: UUID) -> TurnStatus | None:
        """Which suspended status the open calls of a turn mean; None when none is open."""
        rows = (
            await self.unit.session.execute(
                select(ToolCall.status, _child.status)
                .outerjoin(_child, _child.parent_call_id == ToolCall.id)
                .where(ToolCall.turn_id == turn_id, ToolCall.status.in_(_ELSEWHERE))
            )
        ).all()
        if not rows:
            return None
        for_people = all(
            status in _FOR_PEOPLE or child is TurnStatus.WAITING for status, child in rows
        )
        return TurnStatus.WAITING if for_people else TurnStatus.DELEGATED

    async def _parent(self, turn: Turn) -> Turn | None:
        if turn.parent_call_id is None:
            return None
        found = await self.locked(turn.parent_call_id)
        return None if found is None else found[0]


@dataclass(frozen=True, slots=True)
class _Parking:
    """Telling those who follow or wait for a turn that only people can bring it on."""

    app: AppContext
    turn_id: UUID
    channel_id: str
    fence: int

    async def say(self) -> None:
        """Close the channel and wake whoever waits."""
        ttl = self.app.settings.chat.stream_ttl_seconds
        writer = ChannelWriter(self.app.redis, self.channel_id, self.fence, ttl)
        async with self.app.statement_sessions() as session:
            rows = await session.scalars(
                select(ToolCall.call_id)
                .where(ToolCall.turn_id == self.turn_id, ToolCall.status.in_(_ELSEWHERE))
                .order_by(ToolCall.position)
            )
            writer.put(events.round_suspended(list(rows.all()), self.channel_id))
        writer.put(events.done("suspended"))
        await writer.flush()
        await announce_turn(self.app, self.turn_id, TurnStatus.WAITING)


async def announce_turn(app: AppContext, turn_id: UUID, status: TurnStatus) -> None:
    """Tell whoever waits for a turn that it ended, or that it waits for people."""
    await app.redis.publish(f"{JOB_DONE_PREFIX}{turn_id}", orjson.dumps({"status": status.value}))


def waiting_ids(calls: Sequence[ToolCall]) -> list[str]:
    """The ids of calls that end elsewhere."""
    return [call.call_id for call in calls if call.status in _ELSEWHERE]
