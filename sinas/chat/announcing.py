"""Telling of turns that no worker has: what came of their calls, and what they wait for.

Written under the fence a turn had when it was given up: once a worker has it again, that one says
what is missing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.chat import events
from sinas.chat.asking import FOR_PEOPLE, unasked
from sinas.chat.channel import ChannelWriter, Mirror
from sinas.chat.pushing import push_turn_row
from sinas.chat.statements import AUDIENCE
from sinas.context import JOB_DONE_PREFIX, AppContext
from sinas.errors import LeaseLostError
from sinas.models import SUSPENDED_TURN, Chat, ToolCall, ToolCallStatus, Turn, TurnStatus

ELSEWHERE: Final = (*FOR_PEOPLE, ToolCallStatus.DELEGATED)


@dataclass(frozen=True, slots=True)
class Landing:
    """A result that was stored while its turn waited for more."""

    app: AppContext
    turn: Turn
    call: ToolCall
    text: str

    async def say(self) -> None:
        """Show it, unless a worker is about to."""
        if self.turn.status not in SUSPENDED_TURN or self.call.status is ToolCallStatus.REJECTED:
            return
        writer = await _speaker(self.app, self.turn)
        writer.put(events.tool_end(self.call.call_id, self.call.name, self.text))
        with suppress(LeaseLostError):
            await writer.flush()


@dataclass(frozen=True, slots=True)
class Parking:
    """A turn that only people can bring on any more, since its sub-agents wait for them, too."""

    app: AppContext
    turn: Turn

    async def say(self) -> None:
        """Ask what its channel does not ask yet, close it, and wake whoever waits."""
        turn = self.turn
        writer = await _speaker(self.app, turn)
        async with self.app.statement_sessions() as session:
            for event in await unasked(session, self.app.redis, turn.id, turn.channel_id):
                writer.put(event)
            rows = await session.scalars(
                select(ToolCall)
                .where(ToolCall.turn_id == turn.id, ToolCall.status.in_(ELSEWHERE))
                .order_by(ToolCall.position)
            )
            writer.put(events.round_suspended(waiting_ids(rows.all()), turn.channel_id))
        writer.put(events.done("suspended"))
        with suppress(LeaseLostError):
            await writer.flush()
        await announce_turn(self.app, turn.id, TurnStatus.WAITING)
        await wake_next(self.app, turn.chat_id)


async def audience(session: AsyncSession, turn: Turn, agent: str) -> tuple[Mirror, ...]:
    """The streams of the agents above a turn of `agent`; none for a person's message."""
    if turn.parent_call_id is None:
        return ()
    rows = await session.execute(AUDIENCE, {"call_key": turn.parent_call_id})
    return tuple(
        Mirror(
            channel_id=row.channel_id,
            call_id=row.call_id,
            agent=agent,
            chat_id=str(turn.chat_id),
        )
        for row in rows
    )


async def announce_turn(app: AppContext, turn_id: UUID, status: TurnStatus) -> None:
    """Tell whoever waits for a turn that it ended, or that it waits for people."""
    await app.redis.publish(f"{JOB_DONE_PREFIX}{turn_id}", orjson.dumps({"status": status.value}))


async def wake_next(app: AppContext, chat_id: UUID) -> None:
    """Queue the turn of a chat that waited for another one, if there is one.

    Asked after that one's end is committed: one that is committed later finds the way free, one
    that was before is seen here.
    """
    statement = (
        select(Turn.id, Turn.generation, Turn.lane)
        .where(Turn.chat_id == chat_id, Turn.status == TurnStatus.QUEUED)
        .order_by(Turn.seq)
        .limit(1)
    )
    async with app.statement_unit() as unit:
        if (row := (await unit.session.execute(statement)).first()) is not None:
            push_turn_row(unit, row.id, row.generation, row.lane)


def waiting_ids(calls: Sequence[ToolCall]) -> list[str]:
    """The ids of calls that end elsewhere."""
    return [call.call_id for call in calls if call.status in ELSEWHERE]


async def _speaker(app: AppContext, turn: Turn) -> ChannelWriter:
    ttl = app.settings.chat.stream_ttl_seconds
    writer = ChannelWriter(app.redis, turn.channel_id, turn.fence, ttl)
    if turn.parent_call_id is not None:
        async with app.statement_sessions() as session:
            statement = select(Chat.agent_namespace, Chat.agent_name).where(Chat.id == turn.chat_id)
            namespace, name = (await session.execute(statement)).one()
            writer.mirrors = await audience(session, turn, f"{namespace}/{name}")
    return writer
