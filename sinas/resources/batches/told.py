"""What callbacks say of turns."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.errors import DeadlineError
from sinas.kit.json_types import JsonObject
from sinas.models import Chat, Message, Turn, TurnStatus
from sinas.resources.batches.children import duration_ms

_DETAILS = (
    select(Turn.id, Chat.agent_namespace, Chat.agent_name, Message.role, Message.content)
    .join(Chat, Chat.id == Turn.chat_id)
    .outerjoin(Message, Message.id == Turn.reply_message_id)
)


async def turn_bodies(session: AsyncSession, turns: Sequence[Turn]) -> dict[UUID, JsonObject]:
    """The bodies of the callbacks about ended turns, by turn, in two queries for all."""
    if not turns:
        return {}
    keys = [turn.id for turn in turns]
    calls = await _calls(session, keys)
    known = {turn.id: turn for turn in turns}
    rows = (await session.execute(_DETAILS.where(Turn.id.in_(keys)))).all()
    return {
        row.id: _body(
            known[row.id],
            agent={"namespace": row.agent_namespace, "name": row.agent_name},
            result={
                "chat_id": str(known[row.id].chat_id),
                "final_message": row.content,
                "final_message_role": row.role,
                "tool_calls": calls[row.id],
            },
        )
        for row in rows
    }


async def _calls(session: AsyncSession, keys: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """The tool calls each turn made, in order."""
    statement = (
        select(Message.turn_id, Message.tool_calls)
        .where(Message.turn_id.in_(keys), Message.tool_calls.is_not(None))
        .order_by(Message.seq)
    )
    found: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in (await session.execute(statement)).all():
        if row.turn_id is not None:
            found[row.turn_id] += row.tool_calls or []
    return found


def _body(turn: Turn, *, agent: JsonObject, result: JsonObject) -> JsonObject:
    is_good = turn.status is TurnStatus.COMPLETED
    was_late = turn.error_code == DeadlineError.code
    begun = turn.started_at or turn.created_at
    return {
        "execution_id": str(turn.id),
        "trigger_id": turn.trigger_id,
        "agent": agent,
        "status": "success" if is_good else "timeout" if was_late else "failure",
        "started_at": begun.isoformat(),
        "finished_at": None if turn.finished_at is None else turn.finished_at.isoformat(),
        "duration_ms": duration_ms(turn),
        "result": result,
        "error": None if is_good else turn.error or turn.status.value,
    }
