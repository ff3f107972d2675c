"""Upkeep of turns and chats."""

from datetime import timedelta

import structlog
from sqlalchemy import delete, func, null, or_, select, update
from sqlalchemy.orm import aliased

from sinas.chat import events
from sinas.chat.announcing import announce_turn
from sinas.chat.carrying import carry_over, unseen_messages
from sinas.chat.channel import ChannelWriter
from sinas.chat.delegating import settle_delegated
from sinas.chat.hooks import verdict_of
from sinas.chat.pushing import push_turn
from sinas.chat.reopening import locked_call, reopen
from sinas.chat.stopping import stop_turn
from sinas.chat.suspending import Suspensions
from sinas.context import AppContext
from sinas.db.direct import any_row
from sinas.kit.ids import uuid7_floor
from sinas.kit.json_text import storable
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import (
    LIVE_TURN,
    SUSPENDED_TURN,
    TERMINAL_EXECUTION,
    TERMINAL_TOOL_CALL,
    TERMINAL_TURN,
    Chat,
    Execution,
    HookRewrite,
    Message,
    ToolCall,
    ToolCallStatus,
    Turn,
    TurnStatus,
)
from sinas.queue.job import Sweep
from sinas.queue.lease import owner_is_dead

log = structlog.get_logger(__name__)

_STALE = timedelta(seconds=5)
_BATCH = 200
_PURGE_BATCH = 100
_GIVEN_UP = "The turn was interrupted {count} times by workers that stopped; send it again."

# Made once: an idle platform spends most of its time on looking for lost work.
_abandoned = select(Turn).where(Turn.status == TurnStatus.RUNNING, owner_is_dead(Turn.lease_owner))
_ABANDONED = _abandoned.limit(_BATCH).with_for_update(skip_locked=True)
_earlier = aliased(Turn)
_blocked = select(_earlier.id).where(
    _earlier.chat_id == Turn.chat_id,
    _earlier.seq < Turn.seq,
    _earlier.status.in_([TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.DELEGATED]),
)
_unpushed = select(Turn).where(
    Turn.status == TurnStatus.QUEUED,
    Turn.queued_at < func.clock_timestamp() - _STALE,
    ~_blocked.exists(),
)
_UNPUSHED = _unpushed.order_by(Turn.queued_at).limit(_BATCH).with_for_update(skip_locked=True)

_delegated = aliased(Turn)
_UNSETTLED = (
    select(_delegated.id)
    .join(ToolCall, ToolCall.id == _delegated.parent_call_id)
    .where(ToolCall.status == ToolCallStatus.DELEGATED, _delegated.status.in_(TERMINAL_TURN))
    .limit(_BATCH)
)
_above = aliased(Turn)
_PARKED = (
    select(_delegated.id)
    .join(ToolCall, ToolCall.id == _delegated.parent_call_id)
    .join(_above, _above.id == ToolCall.turn_id)
    .where(
        ToolCall.status == ToolCallStatus.DELEGATED,
        _delegated.status == TurnStatus.WAITING,
        _above.status == TurnStatus.DELEGATED,
    )
    .limit(_BATCH)
)
_ORPHANS = (
    select(ToolCall.id)
    .where(
        ToolCall.status == ToolCallStatus.DELEGATED,
        ~select(_delegated.id).where(_delegated.parent_call_id == ToolCall.id).exists(),
    )
    .limit(_BATCH)
)
_STRAYS = (
    select(_delegated.id)
    .join(ToolCall, ToolCall.id == _delegated.parent_call_id)
    .where(
        ToolCall.status.in_(TERMINAL_TOOL_CALL),
        _delegated.status.in_(LIVE_TURN),
        ~_delegated.stop_requested,
    )
    .order_by(_delegated.id)
    .limit(_BATCH)
)
_EXPIRED = (
    select(ToolCall.id, ToolCall.status)
    .join(Turn, Turn.id == ToolCall.turn_id)
    .where(
        ToolCall.status.in_([ToolCallStatus.AWAITING_APPROVAL, ToolCallStatus.AWAITING_ANSWER]),
        ToolCall.expires_at < func.now(),
        Turn.status.in_(SUSPENDED_TURN),
    )
    .limit(_BATCH)
)
_UNCHANGED = "\0"  # no stored text holds it
_rewrites = (
    select(
        HookRewrite,
        Execution.output_data,
        select(Message.id).where(Message.id == HookRewrite.message_id).exists(),
        ~select(Turn.id)
        .where(Turn.id == HookRewrite.turn_id, Turn.status.not_in(TERMINAL_TURN))
        .exists(),
    )
    .outerjoin(Execution, Execution.id == HookRewrite.execution_id)
    .where(or_(Execution.id.is_(None), Execution.status.in_(TERMINAL_EXECUTION)))
)
_REWRITES = _rewrites.limit(_BATCH).with_for_update(of=HookRewrite, skip_locked=True)
_GONE: JsonObject = {"error": "The chat of the sub-agent was deleted before it answered."}
_UNANSWERED: JsonObject = {"error": "The user did not answer in time.", "timed_out": True}
_UNDECIDED: JsonObject = {
    "error": "Rejected",
    "message": "Nobody approved this tool call in time.",
    "timed_out": True,
}


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
                        ToolCall.status.not_in(TERMINAL_TOOL_CALL),
                    )
                    .values(status=ToolCallStatus.INTERRUPTED)
                )
                await carry_over(unit, turn, unseen_messages(turn))
                continue
            turn.status = TurnStatus.QUEUED
            turn.queued_at = func.clock_timestamp()
            push_turn(unit, turn)
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
        await announce_turn(self._context, turn.id, TurnStatus.FAILED)


async def push_again(context: AppContext) -> None:
    """Push queued turns whose entry got lost between commit and queue, or with Redis."""
    async with context.unit() as unit:
        for turn in (await unit.session.scalars(_UNPUSHED)).all():
            turn.queued_at = func.clock_timestamp()
            push_turn(unit, turn)


async def settle(context: AppContext) -> None:
    """Do for turns and their sub-agents what the worker that should have done it died before."""
    async with context.statement_sessions() as session:
        ended = (await session.scalars(_UNSETTLED)).all()
    for turn_id in ended:
        async with context.unit() as unit:
            await settle_delegated(context, unit, turn_id)
    async with context.statement_sessions() as session:
        parked = (await session.scalars(_PARKED)).all()
    for turn_id in parked:
        async with context.unit() as unit:
            turn = await unit.session.get(Turn, turn_id, with_for_update=True)
            if turn is not None:
                await Suspensions(context, unit).advance_parent(turn)
    async with context.statement_sessions() as session:
        orphans = (await session.scalars(_ORPHANS)).all()
    for call_key in orphans:
        async with context.unit() as unit:
            await Suspensions(context, unit).settle(call_key, ToolCallStatus.FAILED, _GONE)
    async with context.statement_sessions() as session:
        strays = (await session.scalars(_STRAYS)).all()
    for turn_id in strays:
        async with context.unit() as unit:
            await stop_turn(unit, turn_id)


async def expire(context: AppContext) -> None:
    """Settle questions and approvals whose time is over without anybody."""
    async with context.statement_sessions() as session:
        due = (await session.execute(_EXPIRED)).all()
    for call_key, status in due:
        asks = status is ToolCallStatus.AWAITING_ANSWER
        async with context.unit() as unit:
            suspensions = Suspensions(context, unit)
            found = await locked_call(unit, call_key)
            if found is None or found[1].status is not status:
                continue  # decided in this moment
            turn, call = found
            await reopen(unit, turn)
            end = ToolCallStatus.FAILED if asks else ToolCallStatus.REJECTED
            await suspensions.write_result(turn, call, end, _UNANSWERED if asks else _UNDECIDED)
            await suspensions.advance(turn)


async def rewrite(context: AppContext) -> None:
    """Put what asynchronous hooks returned in place of the messages they were shown."""
    async with context.unit() as unit:
        rows = (await unit.session.execute(_REWRITES)).all()
        for row, output, is_written, has_ended in rows:
            if is_written:
                verdict = verdict_of(output, _UNCHANGED)
                if verdict.text != _UNCHANGED:
                    await unit.session.execute(
                        update(Message)
                        .where(Message.id == row.message_id)
                        .values(content=storable(verdict.text))
                    )
            elif not has_ended:
                continue  # its message comes in a moment
            await unit.session.delete(row)


async def forget_results(context: AppContext) -> None:
    """Drop the full results of old calls; what the model was told of them stays."""
    days = context.settings.chat.tool_result_retention_days
    if not days:
        return
    oldest = uuid7_floor(utcnow() - timedelta(days=days))
    while True:
        old = (
            select(ToolCall.id)
            .where(ToolCall.id < oldest, ToolCall.result.is_not(None))
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
        async with context.unit() as unit:
            result = await unit.session.execute(
                update(ToolCall)
                .where(ToolCall.id.in_(old))
                .values(result=null())
                .returning(ToolCall.id)
                .execution_options(synchronize_session=False)
            )
            if len(result.all()) < _BATCH:
                return


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


_EVERY_SECOND = timedelta(seconds=1)
_OFTEN = timedelta(seconds=2)
SWEEPS = (
    Sweep(name="turns.take_over", every=_EVERY_SECOND, work=take_over, due=any_row(_abandoned)),
    Sweep(name="turns.push_again", every=_OFTEN, work=push_again, due=any_row(_unpushed)),
    Sweep(
        name="turns.settle",
        every=_OFTEN,
        work=settle,
        due=any_row(_UNSETTLED, _PARKED, _ORPHANS, _STRAYS),
    ),
    Sweep(name="hooks.rewrite", every=_EVERY_SECOND, work=rewrite, due=any_row(_rewrites)),
    Sweep(name="calls.expire", every=timedelta(seconds=5), work=expire, due=any_row(_EXPIRED)),
    Sweep(name="calls.forget_results", every=timedelta(hours=6), work=forget_results),
    Sweep(name="chats.purge", every=timedelta(hours=1), work=purge),
)
