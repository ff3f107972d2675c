"""Chats from whole message lists: what clients send that keep their conversations themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import insert

from sinas.auth.principal import Principal
from sinas.chat.overrides import Overrides
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import NotFoundError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import Agent, Chat, Message
from sinas.resources.chats.approvals import DecisionService
from sinas.resources.chats.repository import open_calls
from sinas.resources.chats.schemas import AnswerRequest, Content
from sinas.resources.chats.service import ChatService, StartedTurn

_ROWS_AT_ONCE: Final = 500
_LONGEST_ANSWER: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One earlier message, in the columns it is stored in."""

    role: str
    content: str | None
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A conversation up to the message that is to be answered.

    Attributes:
        history: What was said before, oldest first.
        overrides: For the turn that answers.
        agent_input: What a new chat fills the agent's templates with.
    """

    message: Content
    history: tuple[Said, ...] = ()
    overrides: Overrides = field(default_factory=Overrides)
    agent_input: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A turn that answers a transcript.

    Attributes:
        channel_id: Where its events are; None when it still waits for other people's answers.
        seconds: How long it may work.
        usage_before: What the turn had used before, when the message answered its question.
        has_form: Whether its answer must match a schema.
    """

    turn_id: UUID
    chat_id: UUID
    channel_id: str | None
    keep_alive: bool
    seconds: int
    usage_before: JsonObject = field(default_factory=dict)
    has_form: bool = False


class TranscriptService(ChatService):
    """Turns that answer transcripts, for one caller."""

    def __init__(self, app: AppContext, unit: Unit, principal: Principal) -> None:
        super().__init__(unit, principal)
        self._app = app

    async def in_new_chat(self, agent: Agent, transcript: Transcript) -> Begun:
        """Answer in a chat of its own that holds the whole transcript.

        It is hidden from lists, and deleted after `adapter_chat_seconds`.

        Raises:
            BadRequestError: `agent_input` does not match the agent's input schema.
        """
        life = timedelta(seconds=self._app.settings.chat.adapter_chat_seconds)
        chat = await self._new(
            agent,
            given=transcript.agent_input,
            title=f"OpenAI adapter: {agent.namespace}/{agent.name}",
            archived=True,
            expires_at=utcnow() + life,
        )
        await self._add(chat, transcript.history)
        return _begun(await self._answer(chat, transcript))

    async def in_session(self, agent: Agent, session_key: str, transcript: Transcript) -> Begun:
        """Answer in the chat of a session. Only a new one takes the transcript's history.

        Raises:
            ForbiddenError: The session is somebody else's.
            BadRequestError: `agent_input` does not match the agent's input schema.
        """
        chat, is_new = await self._in_session(
            agent,
            session_key,
            given=transcript.agent_input,
            title=f"OpenAI adapter: {agent.namespace}/{agent.name}",
        )
        if is_new:
            await self._add(chat, transcript.history)
            return _begun(await self._answer(chat, transcript))
        return await self._go_on(chat, transcript)

    async def in_chat(self, agent: Agent, chat_id: UUID, transcript: Transcript) -> Begun:
        """Answer the transcript's last message in a chat that knows what was said before.

        A chat that would be deleted some day starts its time anew.

        Raises:
            NotFoundError: No such chat of the caller with this agent.
        """
        chat = await self.get(chat_id)
        if (chat.agent_namespace, chat.agent_name) != (agent.namespace, agent.name):
            raise NotFoundError("Chat not found")
        if chat.expires_at is not None:
            life = timedelta(seconds=self._app.settings.chat.adapter_chat_seconds)
            chat.expires_at = max(chat.expires_at, utcnow() + life)
        return await self._go_on(chat, transcript)

    async def _go_on(self, chat: Chat, transcript: Transcript) -> Begun:
        """The message as the answer to the one question the agent waits for, or as a new turn."""
        message = transcript.message
        waiting = await open_calls(self.unit.session, chat.id)
        is_answer = isinstance(message, str) and len(message) <= _LONGEST_ANSWER
        if not is_answer or len(waiting) != 1 or waiting[0].question is None:
            return _begun(await self._answer(chat, transcript))
        settled = await DecisionService(self._app, self.unit, self.principal).answer(
            chat.id, waiting[0].call_id, AnswerRequest(answer=str(message))
        )
        turn = settled.turn
        if turn is None:
            raise NotFoundError("The turn that asked has ended; send the message again.")
        return Begun(
            turn_id=turn.id,
            chat_id=chat.id,
            channel_id=settled.accepted.channel_id,
            keep_alive=turn.keep_alive,
            seconds=turn.timeout_seconds,
            usage_before=settled.usage_before,
        )

    async def _answer(self, chat: Chat, transcript: Transcript) -> StartedTurn:
        return await self._start(
            chat, transcript.message, self._app.settings, overrides=transcript.overrides
        )

    async def _add(self, chat: Chat, history: Sequence[Said]) -> None:
        """Store messages; a statement numbers its rows in the order they are given in."""
        rows = [
            {
                "id": uuid7(),
                "chat_id": chat.id,
                "role": said.role,
                "content": said.content,
                "tool_calls": said.tool_calls,
                "tool_call_id": said.tool_call_id,
                "name": said.name,
            }
            for said in history
        ]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            await self.unit.session.execute(
                insert(Message).values(rows[start : start + _ROWS_AT_ONCE])
            )


def _begun(started: StartedTurn) -> Begun:
    return Begun(
        turn_id=started.turn_id,
        chat_id=started.chat_id,
        channel_id=started.channel_id,
        keep_alive=started.keep_alive,
        seconds=started.timeout_seconds,
    )
