"""What turns ask people: the questions and approvals that are open, and the events that ask them."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import orjson
from redis.asyncio import Redis
from sqlalchemy import CTE, ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from sinas.chat import events
from sinas.chat.channel import read_after
from sinas.kit.json_types import JsonObject
from sinas.models import LIVE_TURN, Chat, ToolCall, ToolCallStatus, Turn

FOR_PEOPLE: Final = (ToolCallStatus.AWAITING_APPROVAL, ToolCallStatus.AWAITING_ANSWER)
_BEGINNING: Final = "0"


def live_below(roots: ColumnElement[bool]) -> CTE:
    """SQL: ids of the live turns `roots` selects, and of those that sub-agents do for them.

    By who waits for whom, not by chats: a sub-agent may go on in a chat that it has with the
    user, or that another conversation began.
    """
    top = select(Turn.id).where(roots, Turn.status.in_(LIVE_TURN)).cte("below", recursive=True)
    child = aliased(Turn)
    return top.union_all(
        select(child.id)
        .join(ToolCall, ToolCall.id == child.parent_call_id)
        .join(top, top.c.id == ToolCall.turn_id)
        .where(child.status.in_(LIVE_TURN))
    )


async def unasked(
    session: AsyncSession, redis: Redis, turn_id: UUID, channel_id: str
) -> Sequence[events.Event]:
    """What a turn, or one of its sub-agents', waits for that its channel does not ask yet.

    Because a worker died before it could, or because it was asked on an earlier channel.
    """
    below = live_below(Turn.id == turn_id)
    statement = (
        select(ToolCall, Chat.agent_namespace, Chat.agent_name)
        .join(Chat, Chat.id == ToolCall.chat_id)
        .where(ToolCall.turn_id.in_(select(below.c.id)), ToolCall.status.in_(FOR_PEOPLE))
        .order_by(ToolCall.created_at, ToolCall.position)
    )
    rows = (await session.execute(statement)).all()
    if not rows:
        return ()
    known = {
        orjson.loads(entry.data)["tool_call_id"]
        for entry in await read_after(redis, channel_id, _BEGINNING)
        if entry.event in (events.APPROVAL_REQUIRED, events.INPUT_REQUIRED)
    }
    return [
        _asked_in(call, turn_id, f"{namespace}/{name}")
        for call, namespace, name in rows
        if call.call_id not in known
    ]


def _asked_in(call: ToolCall, turn_id: UUID, agent: str) -> events.Event:
    event = asking(call)
    if call.turn_id == turn_id:
        return event
    return events.from_sub_agent(event, agent, str(call.chat_id))


def asking(row: ToolCall) -> events.Event:
    """What a call asks people: for an answer, or for their decision."""
    if row.status != ToolCallStatus.AWAITING_ANSWER:
        return events.approval_required(
            row.call_id,
            row.resource_namespace or "",
            row.resource_name or "",
            parse_arguments(row.arguments) or {},
        )
    assert isinstance(row.question, dict)
    expires_at = row.expires_at.isoformat() if row.expires_at else None
    return events.input_required(
        row.call_id, str(row.question["question"]), row.question.get("options"), expires_at
    )


def parse_arguments(text: str) -> JsonObject | None:
    """The arguments as an object, or None when the model wrote something else."""
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
