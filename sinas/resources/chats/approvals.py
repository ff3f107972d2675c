"""Decisions and answers of people: each resolves its own call; the last one resumes the turn.

Calls of sub-agents are decided in the chat at the top, which is the one that people see.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sinas.auth.principal import Principal
from sinas.chat.approving import grant_key
from sinas.chat.reopening import locked_call, reopen, turn_above
from sinas.chat.suspending import Suspensions
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.ids import uuid7
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import (
    Chat,
    Message,
    ToolCall,
    ToolCallStatus,
    ToolGrant,
    Turn,
    TurnStatus,
)
from sinas.resources.chats.schemas import (
    AnswerAccepted,
    AnswerRequest,
    ApprovalRequest,
    ApprovalResponse,
)
from sinas.resources.chats.service import ChatService

_GRANT_LIFE = timedelta(days=7)
REJECTED: JsonObject = {
    "error": "Rejected",
    "message": "The user rejected this tool call. Do not call it again unasked.",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """What an answer led to.

    Attributes:
        turn: The turn of the chat that was addressed; None when it has none that is open.
        usage_before: What that turn had used until then.
        resumed: Whether the turn whose call it was goes on.
    """

    accepted: AnswerAccepted
    turn: Turn | None
    usage_before: JsonObject
    resumed: bool


class DecisionService:
    """Decisions about, and answers to, calls of one caller's chats."""

    def __init__(self, app: AppContext, unit: Unit, principal: Principal) -> None:
        self.unit = unit
        self.principal = principal
        self.chats = ChatService(unit, principal)
        self.suspensions = Suspensions(app, unit)

    async def decide(self, chat_id: UUID, call_id: str, data: ApprovalRequest) -> ApprovalResponse:
        """Approve or reject one call. Both give the model a result; the last decision resumes.

        Raises:
            NotFoundError: No such chat, or no call of that id waits for a decision in it.
            ForbiddenError: Somebody else's chat, no chat grant on its agent, or arguments changed
                by a key with other limits than the turn's.
            InvalidInputError: The changed arguments cannot be stored.
        """
        turn, call = await self._waiting(chat_id, call_id, ToolCallStatus.AWAITING_APPROVAL)
        await reopen(self.unit, turn)
        if data.approved:
            await self._approve(turn, call, data)
        else:
            await self.suspensions.write_result(turn, call, ToolCallStatus.REJECTED, REJECTED)
        self._sign(call)
        await self.suspensions.advance(turn)
        resumed = turn.status is TurnStatus.QUEUED
        channel_id = (await self._addressed(chat_id, turn) or turn).channel_id
        return ApprovalResponse(
            status="approved" if data.approved else "rejected",
            tool_call_id=call_id,
            channel_id=channel_id,
            resume="queued" if resumed else "waiting",
            message=f"Resume job enqueued. Connect to /chats/{chat_id}/stream/{channel_id} "
            "for results."
            if resumed
            else "More tool calls of this round wait for a decision.",
        )

    async def answer(self, chat_id: UUID, call_id: str, data: AnswerRequest) -> Settled:
        """Answer a question of `ask_user`; the answer becomes the call's result.

        Raises:
            NotFoundError: No such chat, or no such question in it.
            ForbiddenError: Somebody else's chat, or no chat grant on its agent.
            ConflictError: It was answered, or has expired.
        """
        turn, call = await self._waiting(chat_id, call_id, ToolCallStatus.AWAITING_ANSWER)
        addressed = await self._addressed(chat_id, turn)
        usage_before = dict(addressed.usage) if addressed else {}
        await reopen(self.unit, turn)
        await self.suspensions.write_result(
            turn, call, ToolCallStatus.DONE, {"answer": data.answer}
        )
        self._sign(call)
        await self.suspensions.advance(turn)
        resumed = turn.status is TurnStatus.QUEUED
        accepted = AnswerAccepted(
            status="answered",
            tool_call_id=call_id,
            resumed=resumed,
            resume_pending=False,
            channel_id=(addressed or turn).channel_id if resumed else None,
            message="The turn goes on; follow channel_id."
            if resumed
            else "The turn waits for more before it goes on.",
        )
        return Settled(accepted, addressed, usage_before, resumed)

    async def _waiting(
        self, chat_id: UUID, call_id: str, status: ToolCallStatus
    ) -> tuple[Turn, ToolCall]:
        """The call that waits, and its turn, locked."""
        await self.chats.sendable(chat_id)
        known = await self.chats.rows.call(chat_id, call_id)
        found = None if known is None else await locked_call(self.unit, known.id)
        asks = status is ToolCallStatus.AWAITING_ANSWER
        # A question may be answered while other calls of its round still run.
        if found is not None and found[1].status is status and not found[0].stop_requested:
            return found
        if asks and known is not None and known.question is not None:
            raise ConflictError(f"The question of tool call '{call_id}' is not open any more.")
        what = "an answer" if asks else "a decision"
        raise NotFoundError(f"No tool call '{call_id}' waits for {what} in this chat")

    async def _approve(self, turn: Turn, call: ToolCall, data: ApprovalRequest) -> None:
        if data.arguments is not None:
            self._require_rights_of(turn)
            await self._change(call, data.arguments)
        call.status = ToolCallStatus.PENDING
        if not data.always_allow:
            return
        expires_at = utcnow() + _GRANT_LIFE
        chat = await self.unit.session.get_one(Chat, call.chat_id)
        chat_id, name = grant_key(chat, call.name)
        await self.unit.session.execute(
            upsert(ToolGrant)
            .values(
                id=uuid7(),
                chat_id=chat_id,
                user_id=self.principal.user_id,
                tool_name=name,
                expires_at=expires_at,
            )
            .on_conflict_do_update(
                index_elements=["chat_id", "tool_name"], set_={"expires_at": expires_at}
            )
        )

    def _require_rights_of(self, turn: Turn) -> None:
        """The call runs with the rights of whoever began the turn: a key must not borrow them."""
        limit = self.principal.limit_map
        if limit is not None and limit != turn.access:
            raise ForbiddenError(
                "This API key is limited otherwise than whoever began the turn: it may approve "
                "the call, but not change its arguments."
            )

    async def _change(self, call: ToolCall, arguments: JsonObject) -> None:
        """Let the call run with other arguments. The model is shown those it ran with."""
        try:
            text = encode(arguments).decode()
        except NotJsonError as error:
            raise InvalidInputError(f"arguments: {error}.") from error
        call.arguments = text
        message = await self.unit.session.get(Message, call.message_id)
        assert message is not None  # the call belongs to it
        changed = [
            {**made, "function": {**made["function"], "arguments": text}}
            if made["id"] == call.call_id
            else made
            for made in message.tool_calls or ()
        ]
        await self.unit.session.execute(
            update(Message).where(Message.id == call.message_id).values(tool_calls=changed)
        )

    def _sign(self, call: ToolCall) -> None:
        call.decided_by = self.principal.user_id
        call.decided_at = func.clock_timestamp()

    async def _addressed(self, chat_id: UUID, turn: Turn) -> Turn | None:
        """The turn of that chat which the call works for, locked; None when it is gone."""
        found: Turn | None = turn
        while found is not None and found.chat_id != chat_id:
            found = await turn_above(self.unit, found)
        return found
