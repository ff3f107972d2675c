"""Turns without a worker: what they wait for, how it is settled, and how they go on.

A turn is suspended when calls of its round end elsewhere: people decide or answer, sub-agents
work. Whoever settles the last of them queues the turn. What a sub-agent waits for, the turns
above it wait for too: `waiting` and `delegated` travel up, and so does going on.

Locks are always taken from a turn upward to its parents, so that no two settlements can wait
for each other.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import aliased

from sinas.chat.announcing import ELSEWHERE, Landing, Parking
from sinas.chat.asking import FOR_PEOPLE
from sinas.chat.prompt import kept_result, result_text
from sinas.chat.pushing import push_turn
from sinas.chat.reopening import locked_call, reopen, turn_above
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.kit.ids import uuid7
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonValue
from sinas.models import (
    SUSPENDED_TURN,
    TERMINAL_TOOL_CALL,
    Message,
    ToolCall,
    ToolCallStatus,
    Turn,
    TurnStatus,
)

_child = aliased(Turn)


@dataclass(frozen=True, slots=True)
class Suspensions:
    """Settling calls, within one transaction."""

    app: AppContext
    unit: Unit

    async def settle(self, call_key: UUID, status: ToolCallStatus, value: JsonValue) -> bool:
        """Give a call its one result, and queue its turn if that was the last one it waits for.

        False when the call has a result already, or is gone with its chat.
        """
        found = await locked_call(self.unit, call_key)
        if found is None or found[1].status in TERMINAL_TOOL_CALL:
            return False
        turn, call = found
        await self.write_result(turn, call, status, value)
        await self.advance(turn)
        return True

    async def write_result(
        self, turn: Turn, call: ToolCall, status: ToolCallStatus, value: JsonValue
    ) -> None:
        """Store what the model gets of a call whose turn is locked."""
        limits = self.app.settings.chat
        text = storable(result_text(value, limits.tool_result_context_max_size))
        call.status = status
        call.result = kept_result(value, limits.tool_result_max_size)
        call.finished_at = func.clock_timestamp()
        await self.unit.session.execute(
            insert(Message).values(
                id=uuid7(),
                chat_id=call.chat_id,
                turn_id=call.turn_id,
                role="tool",
                content=text,
                tool_call_id=call.call_id,
                name=call.name,
            )
        )
        if turn.status in SUSPENDED_TURN and not turn.channel_done:
            self.unit.after_commit(Landing(self.app, turn, call, text).say)

    async def advance(self, turn: Turn) -> None:
        """Bring a locked turn to the state that its open calls leave it in."""
        if turn.status not in SUSPENDED_TURN:
            return  # a worker has it and will see for itself
        before = turn.status
        # The call that was just settled must count.
        await self.unit.session.flush()
        after = await self.state_of(turn.id)
        if after is None:
            await reopen(self.unit, turn)
            turn.status = TurnStatus.QUEUED
            turn.generation += 1
            turn.queued_at = func.clock_timestamp()
            push_turn(self.unit, turn)
        elif after is before:
            return
        elif after is TurnStatus.WAITING:
            turn.status = TurnStatus.WAITING
            turn.channel_done = True
            self.unit.after_commit(Parking(self.app, turn).say)
        else:
            await reopen(self.unit, turn)
            turn.status = TurnStatus.DELEGATED
        await self.advance_parent(turn)

    async def advance_parent(self, turn: Turn) -> None:
        """Do the same for the turn that waits for this one, if one does."""
        if (parent := await turn_above(self.unit, turn)) is not None:
            await self.advance(parent)

    async def state_of(self, turn_id: UUID) -> TurnStatus | None:
        """Which suspended status the open calls of a turn mean; None when none is open."""
        rows = (
            await self.unit.session.execute(
                select(ToolCall.status, _child.status)
                .outerjoin(_child, _child.parent_call_id == ToolCall.id)
                .where(ToolCall.turn_id == turn_id, ToolCall.status.in_(ELSEWHERE))
            )
        ).all()
        if not rows:
            return None
        for_people = all(
            status in FOR_PEOPLE or child is TurnStatus.WAITING for status, child in rows
        )
        return TurnStatus.WAITING if for_people else TurnStatus.DELEGATED
