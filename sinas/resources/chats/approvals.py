"""Decisions about tool calls: each resolves its own call; the last one resumes the turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sinas.auth.principal import Principal
from sinas.chat.prompt import result_text
from sinas.chat.rounds import parse_arguments
from sinas.chat.turn import push_turn
from sinas.db.unit import Unit
from sinas.errors import NotFoundError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import Chat, Message, ToolCall, ToolCallStatus, ToolGrant, Turn, TurnStatus
from sinas.resources.chats.schemas import ApprovalRequest, ApprovalResponse, PendingApproval
from sinas.resources.chats.service import ChatService

_GRANT_LIFE = timedelta(days=7)
_RESULT_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class _Decision:
    call: ToolCall
    turn: Turn
    first_of_round: bool
    left: int


class ApprovalService:
    """Approvals of one caller's chats."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.unit = unit
        self.principal = principal

    async def decide(self, chat_id: UUID, call_id: str, data: ApprovalRequest) -> ApprovalResponse:
        """Approve or reject one call. Both give the model a result; the last decision resumes.

        Raises:
            NotFoundError: No such chat, or no call of that id waits in it.
            ForbiddenError: Somebody else's chat, or no chat grant on its agent.
        """
        await ChatService(self.unit, self.principal).sendable(chat_id)
        decision = await self._locked(chat_id, call_id)
        if data.approved:
            await self._approve(decision.call, always=data.always_allow)
        else:
            await self._reject(decision.call)
        channel_id = self._channel(decision)
        if decision.left == 0:
            await self._resume(decision.turn, channel_id)
        return ApprovalResponse(
            status="approved" if data.approved else "rejected",
            tool_call_id=call_id,
            channel_id=channel_id,
            resume="waiting" if decision.left else "queued",
            message=f"{decision.left} more tool calls of this round wait for a decision."
            if decision.left
            else f"Resume job enqueued. Connect to /chats/{chat_id}/stream/{channel_id} "
            "for results.",
        )

    async def _locked(self, chat_id: UUID, call_id: str) -> _Decision:
        """The waiting call; the lock on its turn makes decisions of one round take turns."""
        session = self.unit.session
        turn = await session.scalar(
            select(Turn)
            .join(ToolCall, ToolCall.turn_id == Turn.id)
            .where(
                Turn.chat_id == chat_id,
                Turn.status == TurnStatus.WAITING,
                ToolCall.call_id == call_id,
            )
            .with_for_update(of=Turn)
        )
        calls: Sequence[ToolCall] = []
        if turn is not None:
            calls = (
                await session.scalars(select(ToolCall).where(ToolCall.turn_id == turn.id))
            ).all()
        waiting = [c for c in calls if c.status == ToolCallStatus.AWAITING_APPROVAL]
        call = next((c for c in waiting if c.call_id == call_id), None)
        if turn is None or call is None:
            raise NotFoundError(f"No tool call '{call_id}' waits for a decision in this chat")
        decided = [c for c in calls if c.message_id == call.message_id and c.decided_at]
        return _Decision(call, turn, not decided, len(waiting) - 1)

    async def _approve(self, call: ToolCall, *, always: bool) -> None:
        call.status = ToolCallStatus.PENDING
        self._sign(call)
        if not always:
            return
        expires_at = utcnow() + _GRANT_LIFE
        await self.unit.session.execute(
            upsert(ToolGrant)
            .values(
                id=uuid7(),
                chat_id=call.chat_id,
                user_id=self.principal.user_id,
                tool_name=call.name,
                expires_at=expires_at,
            )
            .on_conflict_do_update(
                index_elements=["chat_id", "tool_name"], set_={"expires_at": expires_at}
            )
        )

    async def _reject(self, call: ToolCall) -> None:
        value: JsonObject = {
            "error": "Rejected",
            "message": "The user rejected this tool call. Do not call it again unasked.",
        }
        call.status = ToolCallStatus.REJECTED
        call.result = value
        call.finished_at = utcnow()
        self._sign(call)
        await self.unit.session.execute(
            insert(Message).values(
                id=uuid7(),
                chat_id=call.chat_id,
                turn_id=call.turn_id,
                role="tool",
                content=result_text(value, _RESULT_LIMIT),
                tool_call_id=call.call_id,
                name=call.name,
            )
        )

    def _sign(self, call: ToolCall) -> None:
        call.decided_by = self.principal.user_id
        call.decided_at = utcnow()

    def _channel(self, decision: _Decision) -> str:
        """The channel the round goes on with: one for all of its decisions."""
        turn = decision.turn
        if decision.first_of_round:
            turn.past_channels = [*turn.past_channels, turn.channel_id]
            turn.channel_id = str(uuid4())
        return turn.channel_id

    async def _resume(self, turn: Turn, channel_id: str) -> None:
        turn.status = TurnStatus.QUEUED
        turn.generation += 1
        turn.queued_at = func.clock_timestamp()
        await self.unit.session.execute(
            update(Chat).where(Chat.id == turn.chat_id).values(active_channel_id=channel_id)
        )
        push_turn(self.unit, turn.id, turn.generation)


def pending(calls: Sequence[ToolCall]) -> list[PendingApproval]:
    """Waiting calls as answers show them."""
    return [
        PendingApproval(
            tool_call_id=call.call_id,
            function_namespace=call.resource_namespace or "",
            function_name=call.resource_name or "",
            arguments=parse_arguments(call.arguments) or {},
        )
        for call in calls
    ]
