"""What a sub-agent's turn brings the call that waits for it."""

from uuid import UUID

from sqlalchemy import select

from sinas.chat.suspending import Suspensions
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.kit.json_types import JsonObject
from sinas.models import TERMINAL_TURN, Chat, Message, ToolCallStatus, Turn, TurnStatus

_STOPPED = "The sub-agent was stopped before it answered."


async def settle_delegated(app: AppContext, unit: Unit, turn_id: UUID) -> bool:
    """Give the call that waits for this ended turn its result. False when it has one."""
    row = (
        await unit.session.execute(
            select(Turn, Chat.agent_name, Message.content)
            .join(Chat, Chat.id == Turn.chat_id)
            .outerjoin(Message, Message.id == Turn.reply_message_id)
            .where(Turn.id == turn_id)
        )
    ).first()
    if row is None:
        return False
    turn: Turn = row[0]
    if turn.parent_call_id is None or turn.status not in TERMINAL_TURN:
        return False
    status, value = result_of(turn, row[1], row[2])
    return await Suspensions(app, unit).settle(turn.parent_call_id, status, value)


def result_of(
    turn: Turn, agent_name: str | None, reply: str | None
) -> tuple[ToolCallStatus, JsonObject]:
    """What the model that called the sub-agent gets."""
    told: JsonObject = {"agent_name": agent_name}
    if turn.status is TurnStatus.COMPLETED:
        return ToolCallStatus.DONE, {**told, "response": reply or "", "chat_id": str(turn.chat_id)}
    error = turn.error or _STOPPED
    return ToolCallStatus.FAILED, {**told, "error": error, "chat_id": str(turn.chat_id)}
