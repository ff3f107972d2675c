"""Turning a followed channel into server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import orjson
from sqlalchemy import select
from sse_starlette import EventSourceResponse

from sinas.chat import events
from sinas.chat.channel import Entry
from sinas.chat.follow import Ping, has_followers
from sinas.chat.stopping import stop_turn
from sinas.context import AppContext
from sinas.models import Turn, TurnStatus

# A client that lost its connection may come back within this time before its turn is stopped.
_GRACE_SECONDS = 2.0
# sse-starlette pings on a timer of its own; ours come only after silence, so its is out of reach.
_NO_PING = 10**9
_AT_WORK = (TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.DELEGATED)
_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class Thinking:
    """Drops reasoning text for clients that did not ask: they learn only that it began."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._begun = False

    def shown(self, entry: Entry) -> str | None:
        """The data to send, None for nothing."""
        if self._wanted or '"thinking"' not in entry.data:
            return entry.data
        data = orjson.loads(entry.data)
        if "thinking" not in data:
            return entry.data
        first, self._begun = not self._begun, True
        if not first and data.get("content") is None and not data.get("tool_calls"):
            return None
        data["thinking"] = ""
        return orjson.dumps(data).decode()


def event_stream(
    context: AppContext,
    stack: AsyncExitStack,
    entries: AsyncIterator[Entry | Ping],
    *,
    channel_id: str,
    thinking: Thinking,
    abandoned: UUID | None,
    last_id: str = "0",
    first: events.Event | None = None,
) -> EventSourceResponse:
    """The response for a followed channel.

    `stack` is closed with it. `abandoned` names a turn that is to end when its last follower
    has left. `last_id` is where the client is already; `first` is for this client alone.
    """
    body = _lines(context, stack, entries, channel_id, thinking, abandoned, last_id, first)
    return EventSourceResponse(
        body, ping=_NO_PING, headers={**_HEADERS, "X-Stream-Channel": channel_id}
    )


async def _lines(
    context: AppContext,
    stack: AsyncExitStack,
    entries: AsyncIterator[Entry | Ping],
    channel_id: str,
    thinking: Thinking,
    abandoned: UUID | None,
    last_id: str,
    first: events.Event | None,
) -> AsyncIterator[bytes]:
    ended = False
    try:
        if first is not None:
            yield _line(last_id, first.name, orjson.dumps(first.data).decode())
        async for entry in entries:
            if isinstance(entry, Ping):
                yield _line(last_id, events.PING, "")
                continue
            last_id = entry.id
            ended = entry.event in events.TERMINAL
            if (data := thinking.shown(entry)) is not None:
                yield _line(entry.id, entry.event, data)
    finally:
        if not ended and abandoned is not None:
            context.background.spawn(
                "turns.stop_abandoned", _stop_if_abandoned(context, channel_id, abandoned)
            )
        # The subscription must go even while the client's departure cancels this.
        await asyncio.shield(stack.aclose())


def _line(event_id: str, event: str, data: str) -> bytes:
    return f"id: {event_id}\r\nevent: {event}\r\ndata: {data}\r\n\r\n".encode()


async def _stop_if_abandoned(context: AppContext, channel_id: str, turn_id: UUID) -> None:
    await asyncio.sleep(_GRACE_SECONDS)
    if await has_followers(context, channel_id):
        return
    async with context.unit() as unit:
        turn = await unit.session.scalar(
            select(Turn.id)
            .where(
                Turn.id == turn_id,
                # Not one that waits for people, or goes on elsewhere after their decision,
                Turn.channel_id == channel_id,
                Turn.status.in_(_AT_WORK),
                # nor one that somebody else spoke to, who may not follow it.
                Turn.injected == 0,
            )
            .with_for_update()
        )
        if turn is not None:
            await stop_turn(unit, turn_id)
