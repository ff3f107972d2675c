"""Waiting for a turn, and saying how it ended."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import select

from sinas.chat.accounting import BudgetExceededError, seconds_to_reset
from sinas.context import AppContext
from sinas.errors import (
    ConflictError,
    DeadlineError,
    InvalidInputError,
    OutputInvalidError,
    SinasError,
    UnauthenticatedError,
    UnavailableError,
    UpstreamError,
)
from sinas.kit.json_types import JsonObject
from sinas.models import TERMINAL_TURN, Message, Turn, TurnStatus
from sinas.queue.signals import RESYNC, Listener
from sinas.resources.chats import pending
from sinas.resources.chats.repository import open_calls
from sinas.resources.chats.schemas import PendingApproval, PendingInput, TurnState
from sinas.resources.chats.service import StartedTurn

# A turn may wait this long for a free worker, on top of its own time.
QUEUE_SECONDS = 60
# An announcement is missed only when Redis or the connection to it fails; then the row tells.
_LOOK_SECONDS = 5.0
_RAISES: dict[str, type[SinasError]] = {
    cls.code: cls
    for cls in (
        OutputInvalidError,
        UpstreamError,
        DeadlineError,
        InvalidInputError,
        ConflictError,
        UnavailableError,
    )
}
_SETTLED = frozenset({*TERMINAL_TURN, TurnStatus.WAITING})


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that no worker runs any more, or that goes on without whoever waited.

    Attributes:
        message: The reply, or what the agent said before it began to wait; None if nothing.
        approvals: Calls of it and its sub-agents that wait for a decision.
        questions: Likewise for an answer.
    """

    turn: Turn
    message: Message | None
    approvals: list[PendingApproval]
    questions: list[PendingInput]

    @property
    def usage(self) -> JsonObject:
        """Tokens of the turn."""
        return self.turn.usage

    @property
    def state(self) -> TurnState:
        """What callers are told of it."""
        if self.turn.status in TERMINAL_TURN:
            return "completed"
        return "input_required" if self.questions else "in_progress"

    @property
    def reply(self) -> str:
        """What the agent said."""
        return (self.message.content if self.message else None) or ""


async def wait_for(context: AppContext, started: StartedTurn, listener: Listener) -> Ended:
    """Wait until the turn ended or waits for people.

    A turn whose sub-agents take longer than it may work is in progress; see `Ended.state`.

    Raises:
        DeadlineError: Its time passed.
        UpstreamError: The LLM provider failed.
        InvalidInputError: The agent's configuration does not work.
    """
    return await wait_for_turn(
        context, started.turn_id, listener, started.timeout_seconds + QUEUE_SECONDS
    )


async def wait_for_turn(
    context: AppContext, turn_id: UUID, listener: Listener, seconds: float
) -> Ended:
    """As `wait_for`, for a turn that somebody else started."""
    try:
        async with asyncio.timeout(seconds):
            ended = await _settled(context, turn_id, listener)
    except TimeoutError as error:
        if await _status(context, turn_id) is not TurnStatus.DELEGATED:
            raise DeadlineError("Agent execution timed out") from error
        ended = await read_turn(context, turn_id)
    if ended.turn.status == TurnStatus.FAILED:
        raise failure_of(ended.turn)
    return ended


async def _settled(context: AppContext, turn_id: UUID, listener: Listener) -> Ended:
    while True:
        if await _heard(listener) or await _status(context, turn_id) in _SETTLED:
            ended = await read_turn(context, turn_id)
            # What was heard may be that it waited, before an answer made it go on.
            if ended.turn.status in _SETTLED:
                return ended


async def _heard(listener: Listener) -> bool:
    """Whether the end was announced; False when it is time to look at the row instead."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            payload = await listener.get()
    except TimeoutError:
        return False
    return payload != RESYNC and orjson.loads(payload)["status"] in _SETTLED


async def _status(context: AppContext, turn_id: UUID) -> TurnStatus | None:
    async with context.sessions() as session:
        return await session.scalar(select(Turn.status).where(Turn.id == turn_id))


async def read_turn(context: AppContext, turn_id: UUID) -> Ended:
    """How a turn stands now."""
    async with context.sessions() as session:
        row = (
            await session.execute(
                select(Turn, Message)
                .outerjoin(Message, Message.id == Turn.reply_message_id)
                .where(Turn.id == turn_id)
            )
        ).one()
        turn, message = row[0], row[1]
        if turn.status in TERMINAL_TURN:
            return Ended(turn, message, [], [])
        calls = await open_calls(session, turn.chat_id)
        asking = await session.scalar(
            select(Message)
            .where(Message.turn_id == turn.id, Message.role == "assistant")
            .order_by(Message.seq.desc())
            .limit(1)
        )
        return Ended(turn, asking, pending.approvals(calls), pending.questions(calls))


def failure_of(turn: Turn) -> SinasError:
    """What whoever waited for a failed turn is told."""
    message = turn.error or "The turn failed."
    if turn.error_code == "template_error":
        return InvalidInputError(message)
    if turn.error_code == UnauthenticatedError.code:
        return ConflictError("The user this turn acts for is no longer active.")
    if turn.error_code == BudgetExceededError.code:
        return BudgetExceededError(message, retry_after_seconds=seconds_to_reset())
    return _RAISES.get(turn.error_code or "", SinasError)(message)
