"""Following a channel: replay, then live, always up to a terminal event."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from redis.exceptions import RedisError
from sqlalchemy import or_, select

from sinas.chat import events
from sinas.chat.asking import unasked
from sinas.chat.channel import Entry, live_channel, parse_live, read_after
from sinas.context import AppContext
from sinas.models import TERMINAL_TURN, Message, Turn, TurnStatus
from sinas.queue.signals import RESYNC, Listener

# A silent stream asks the journal this often whether its turn ended without saying so.
_CHECK_SECONDS = 5.0
_BEGINNING: Final = "0"


@dataclass(frozen=True, slots=True)
class Ping:
    """Nothing happened for a while."""


@asynccontextmanager
async def follow(
    context: AppContext, chat_id: UUID, channel_id: str, last_id: str | None
) -> AsyncIterator[AsyncIterator[Entry | Ping]]:
    """Entries behind `last_id`; None follows a channel nothing was written to yet.

    Enter the block before the turn is committed and no event can be missed.
    """
    async with context.signals.listen(live_channel(channel_id)) as listener:
        yield _entries(_Source(context, chat_id, channel_id, listener), last_id)


@dataclass(frozen=True, slots=True)
class _Source:
    context: AppContext
    chat_id: UUID
    channel_id: str
    listener: Listener


async def _entries(source: _Source, last_id: str | None) -> AsyncIterator[Entry | Ping]:
    ping_seconds = source.context.settings.chat.ping_seconds
    pause = min(_CHECK_SECONDS, ping_seconds)
    cursor = Entry(last_id or _BEGINNING, "", "")
    batch: Sequence[Entry] = []
    if last_id is not None:
        batch = await _catch_up(source, cursor, is_first=True)
    silence = 0.0
    while True:
        for entry in batch:
            if entry.position <= cursor.position:
                continue
            cursor = entry
            yield entry
            if entry.event in events.TERMINAL:
                return
        batch, quiet = await _next(source, cursor, pause)
        silence = silence + pause if quiet else 0.0
        if silence >= ping_seconds:
            silence = 0.0
            yield Ping()


async def _next(source: _Source, cursor: Entry, pause: float) -> tuple[Sequence[Entry], bool]:
    """The next entries, and whether the wait for them was in vain."""
    try:
        async with asyncio.timeout(pause):
            payload = await source.listener.get()
    except TimeoutError:
        return await _catch_up(source, cursor), True
    if payload == RESYNC:
        return await _catch_up(source, cursor), False
    return parse_live(payload), False


async def _catch_up(source: _Source, cursor: Entry, *, is_first: bool = False) -> Sequence[Entry]:
    """What is behind `cursor`; with nothing there, or at first, also the end that nobody said."""
    redis, channel_id = source.context.redis, source.channel_id
    try:
        missed = await read_after(redis, channel_id, cursor.id)
        if missed and (not is_first or missed[-1].event in events.TERMINAL):
            return missed
        last = missed[-1] if missed else cursor
        ending = await _closing(source, last)
        # Its last events are written before the row says that it ended, maybe since the look.
        return [*missed, *(ending and (await read_after(redis, channel_id, last.id) or ending))]
    except RedisError:
        return []


async def _closing(source: _Source, cursor: Entry) -> Sequence[Entry]:
    """The end of a turn whose stream lacks one: expired, lost with Redis, or never written."""
    async with source.context.sessions() as session:
        statement = (
            select(Turn.id, Turn.channel_id, Turn.status, Turn.error, Message.content)
            .outerjoin(Message, Message.id == Turn.reply_message_id)
            .where(
                Turn.chat_id == source.chat_id,
                or_(
                    Turn.channel_id == source.channel_id,
                    Turn.past_channels.contains([source.channel_id]),
                ),
            )
        )
        row = (await session.execute(statement)).first()
        if row is None:
            return []
        if row.channel_id != source.channel_id:
            # Resumed on another channel: this one ended when the turn began to wait.
            return _entries_of(cursor, [events.done("suspended")])
        if row.status == TurnStatus.WAITING:
            open_questions = await unasked(session, source.context.redis, row.id, source.channel_id)
            return _entries_of(cursor, [*open_questions, events.done("suspended")])
    if row.status not in TERMINAL_TURN:
        return []
    said = [events.message(row.content)] if row.content and cursor.id == _BEGINNING else []
    return _entries_of(cursor, [*said, terminal_event(row.status, row.error)])


def _entries_of(cursor: Entry, found: Sequence[events.Event]) -> Sequence[Entry]:
    milliseconds, sequence = cursor.position
    return [
        Entry(f"{milliseconds}-{sequence + n}", event.name, orjson.dumps(event.data).decode())
        for n, event in enumerate(found, start=1)
    ]


def terminal_event(status: TurnStatus, error: str | None) -> events.Event:
    """How a turn of that status ends its stream."""
    if status == TurnStatus.FAILED:
        return events.error(error or "The turn failed.")
    names = {TurnStatus.CANCELLED: "cancelled", TurnStatus.WAITING: "suspended"}
    return events.done(names.get(status, "completed"))


async def has_followers(context: AppContext, channel_id: str) -> bool:
    """Whether any process still follows a channel."""
    counts = await context.redis.pubsub_numsub(live_channel(channel_id))
    return any(count > 0 for _, count in counts)
