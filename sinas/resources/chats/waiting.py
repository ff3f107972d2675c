"""Waiting for a turn, and saying how it ended."""

import asyncio
from dataclasses import dataclass

import orjson
from sqlalchemy import select

from sinas.context import AppContext
from sinas.errors import (
    ConflictError,
    DeadlineError,
    InvalidInputError,
    SinasError,
    UnauthenticatedError,
    UnavailableError,
    UpstreamError,
)
from sinas.kit.json_types import JsonObject
from sinas.models import TERMINAL_TURN, Message, ToolCall, ToolCallStatus, Turn, TurnStatus
from sinas.queue.signals import RESYNC, Listener
from sinas.resources.chats.approvals import pending
from sinas.resources.chats.schemas import PendingApproval
from sinas.resources.chats.service import StartedTurn

# A turn may wait this long for a free worker, on top of its own time.
_QUEUE_SECONDS = 60
# An announcement is missed only when Redis or the connection to it fails; then the row tells.
_LOOK_SECONDS = 5.0
_RAISES: dict[str, type[SinasError]] = {
    cls.code: cls
    for cls in (UpstreamError, DeadlineError, InvalidInputError, ConflictError, UnavailableError)
}
_SETTLED = frozenset({*TERMINAL_TURN, TurnStatus.WAITING})


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that no worker runs any more.

    Attributes:
        message: The reply, or the message whose calls wait for approval; None if there is none.
    """

    turn: Turn
    message: Message | None
    approvals: list[PendingApproval]

    @property
    def usage(self) -> JsonObject:
        """Tokens of the turn."""
        return self.turn.usage


async def wait_for(context: AppContext, started: StartedTurn, listener: Listener) -> Ended:
    """Wait until the turn ended or waits for people.

    Raises:
        DeadlineError: Its time passed.
        UpstreamError: The LLM provider failed.
        InvalidInputError: The agent's configuration does not work.
    """
    try:
        async with asyncio.timeout(started.timeout_seconds + _QUEUE_SECONDS):
            while not await _heard(listener) and not await _is_settled(context, started):
                pass
    except TimeoutError as error:
        raise DeadlineError("Agent execution timed out") from error
    ended = await _read(context, started)
    if ended.turn.status == TurnStatus.FAILED:
        raise _failure(ended.turn)
    return ended


async def _heard(listener: Listener) -> bool:
    """Whether the end was announced; False when it is time to look at the row instead."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            payload = await listener.get()
    except TimeoutError:
        return False
    return payload != RESYNC and orjson.loads(payload)["status"] in _SETTLED


async def _is_settled(context: AppContext, started: StartedTurn) -> bool:
    async with context.sessions() as session:
        status = await session.scalar(select(Turn.status).where(Turn.id == started.turn_id))
    return status in _SETTLED


async def _read(context: AppContext, started: StartedTurn) -> Ended:
    async with context.sessions() as session:
        row = (
            await session.execute(
                select(Turn, Message)
                .outerjoin(Message, Message.id == Turn.reply_message_id)
                .where(Turn.id == started.turn_id)
            )
        ).one()
        turn, message = row[0], row[1]
        if turn.status != TurnStatus.WAITING:
            return Ended(turn, message, [])
        calls = (
            await session.scalars(
                select(ToolCall)
                .where(
                    ToolCall.turn_id == turn.id,
                    ToolCall.status == ToolCallStatus.AWAITING_APPROVAL,
                )
                .order_by(ToolCall.position)
            )
        ).all()
        asking = await session.scalar(
            select(Message)
            .where(Message.turn_id == turn.id, Message.role == "assistant")
            .order_by(Message.seq.desc())
            .limit(1)
        )
        return Ended(turn, asking, pending(calls))


def _failure(turn: Turn) -> SinasError:
    message = turn.error or "The turn failed."
    if turn.error_code == "template_error":
        return InvalidInputError(message)
    if turn.error_code == UnauthenticatedError.code:
        return ConflictError("The user this turn acts for is no longer active.")
    return _RAISES.get(turn.error_code or "", SinasError)(message)
