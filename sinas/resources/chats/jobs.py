"""Upkeep of turns and chats."""

from datetime import timedelta

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import aliased

from sinas.chat import events
from sinas.chat.channel import ChannelWriter
from sinas.chat.turn import push_turn
from sinas.context import JOB_DONE_PREFIX, AppContext
from sinas.models import Chat, ToolCall, ToolCallStatus, Turn, TurnStatus
from sinas.queue.job import Sweep
from sinas.queue.lease import owner_is_dead

log = structlog.get_logger(__name__)

_STALE = timedelta(seconds=5)
_BATCH = 200
_PURGE_BATCH = 100
_GIVEN_UP = "The turn was interrupted {count} times by workers that stopped; send it again."

# Made once: an idle platform spends most of its time on looking for lost work.
_ABANDONED = (
    select(Turn)
    .where(Turn.status == TurnStatus.RUNNING, owner_is_dead(Turn.lease_owner))
    .limit(_BATCH)
    .with_for_update(skip_locked=True)
)
_earlier = aliased(Turn)
_blocked = select(_earlier.id).where(
    _earlier.chat_id == Turn.chat_id,
    _earlier.seq < Turn.seq,
    _earlier.status.in_([TurnStatus.QUEUED, TurnStatus.RUNNING]),
)
_UNPUSHED = (
    select(Turn)
    .where(
        Turn.status == TurnStatus.QUEUED,
        Turn.queued_at < func.clock_timestamp() - _STALE,
        ~_blocked.exists(),
    )
    .order_by(Turn.queued_at)
    .limit(_BATCH)
    .with_for_update(skip_locked=True)
)


async def take_over(context: AppContext) -> None:
    """Queue turns anew whose worker died; after too many takeovers, fail them."""
    limit = context.settings.queue.max_retries
    async with context.unit() as unit:
        for turn in (await unit.session.scalars(_ABANDONED)).all():
            turn.lease_owner = None
            turn.takeovers += 1
            turn.generation += 1
            if turn.takeovers > limit:
                turn.status = TurnStatus.FAILED
                turn.fence += 1
                turn.error = _GIVEN_UP.format(count=turn.takeovers)
                turn.error_code = "unavailable"
                turn.finished_at = func.clock_timestamp()
                unit.after_commit(_Farewell(context, turn).say)
                await unit.session.execute(
                    update(ToolCall)
                    .where(
                        ToolCall.turn_id == turn.id,
                        ToolCall.status.in_([ToolCallStatus.PENDING, ToolCallStatus.RUNNING]),
                    )
                    .values(status=ToolCallStatus.INTERRUPTED)
                )
                continue
            turn.status = TurnStatus.QUEUED
            turn.queued_at = func.clock_timestamp()
            push_turn(unit, turn.id, turn.generation)
            log.warning("turn.taken_over", turn_id=str(turn.id), takeovers=turn.takeovers)


class _Farewell:
    """The last event of a turn that no worker will finish."""

    def __init__(self, context: AppContext, turn: Turn) -> None:
        self._context = context
        self._turn = turn

    async def say(self) -> None:
        """Close the channel and wake whoever waits."""
        turn = self._turn
        writer = ChannelWriter(
            self._context.redis,
            turn.channel_id,
            turn.fence,
            self._context.settings.chat.stream_ttl_seconds,
        )
        writer.put(events.error(turn.error or ""))
        await writer.flush()
        await self._context.redis.publish(f"{JOB_DONE_PREFIX}{turn.id}", b'{"status":"failed"}')


async def push_again(context: AppContext) -> None:
    """Push queued turns whose entry got lost between commit and queue, or with Redis."""
    async with context.unit() as unit:
        for turn in (await unit.session.scalars(_UNPUSHED)).all():
            turn.queued_at = func.clock_timestamp()
            push_turn(unit, turn.id, turn.generation)


async def purge(context: AppContext) -> None:
    """Delete expired chats for good, with their messages."""
    while True:
        async with context.unit() as unit:
            expired = (
                select(Chat.id)
                .where(Chat.expires_at < func.now())
                .limit(_PURGE_BATCH)
                .with_for_update(skip_locked=True)
            )
            result = await unit.session.execute(
                delete(Chat).where(Chat.id.in_(expired)).returning(Chat.id)
            )
            if len(result.all()) < _PURGE_BATCH:
                return


SWEEPS = (
    Sweep(name="turns.take_over", every=timedelta(seconds=1), run=take_over),
    Sweep(name="turns.push_again", every=timedelta(seconds=2), run=push_again),
    Sweep(name="chats.purge", every=timedelta(hours=1), run=purge),
)
