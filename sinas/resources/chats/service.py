"""Rules of chats: who may talk to whom, and how a turn begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.chat.overrides import Overrides
from sinas.chat.pushing import push_turn_row
from sinas.chat.statements import CHATS_ABOVE, START
from sinas.chat.stopping import stop_turn
from sinas.db.unit import Unit
from sinas.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
)
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import Agent, Batch, Chat, Message
from sinas.queue.lanes import agent_lane
from sinas.resources.agents.service import AgentService
from sinas.resources.chats.beginnings import chat_columns, initial_messages, validated_input
from sinas.resources.chats.many import ManyChats, Opened
from sinas.resources.chats.repository import ChatRepository
from sinas.resources.chats.schemas import ChatCreate, ChatUpdate, Content, InvokeRequest
from sinas.settings import Settings
from sinas.tracing.spans import current_span

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A turn that is queued once its unit commits.

    Attributes:
        injected: The chat's turn was at work, and the message went into it: this is that turn.
        message_id: The user's message.
    """

    turn_id: UUID
    channel_id: str
    chat_id: UUID
    keep_alive: bool
    timeout_seconds: int
    injected: bool = False
    message_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """What a sub-agent's turn answers.

    Attributes:
        call_key: The tool call that waits for it.
        chat_id: The chat of that call.
        root_chat_id: The chat at the top of the chain.
        depth: Of the new turn; 1 for a sub-agent of an agent that a person speaks to.
    """

    call_key: UUID
    chat_id: UUID
    root_chat_id: UUID
    depth: int


class ChatService:
    """Operations on chats, for one caller."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.unit = unit
        self.principal = principal
        self.rows = ChatRepository(unit.session, principal)
        self.agents = AgentService(unit, principal)

    async def create(self, namespace: str, name: str, data: ChatCreate) -> Chat:
        """A new chat with an agent.

        Raises:
            NotFoundError: The agent is absent or inactive.
            ForbiddenError: The caller may not chat with it.
            BadRequestError: `input` does not match the agent's input schema.
        """
        agent = await self.agents.for_chat(namespace, name)
        expires_at = None
        if data.expires_in is not None:
            expires_at = utcnow() + timedelta(seconds=min(data.expires_in, _MAX_LIFE_SECONDS))
        return await self._new(
            agent,
            given=data.input,
            title=data.title or f"Chat with {namespace}/{name}",
            keep_alive=data.keep_alive,
            job_timeout=data.job_timeout,
            expires_at=expires_at,
        )

    async def open_many(
        self,
        agent: Agent,
        said: Sequence[tuple[JsonObject | None, Content]],
        batch: Batch,
        settings: Settings,
        *,
        prefix: str,
        delay: timedelta,
        callback_url: str | None,
    ) -> Sequence[Opened]:
        """A chat with one message for each input and message of a batch; see `ManyChats`.

        Whether the caller may chat with the agent is for the calling slice to check.
        """
        many = ManyChats(
            unit=self.unit,
            principal=self.principal,
            settings=settings,
            batch=batch,
            prefix=prefix,
            delay=delay,
            callback_url=callback_url,
        )
        return await many.open(agent, [(given, stored_content(text)) for given, text in said])

    async def get(self, chat_id: UUID) -> Chat:
        """One chat of the caller.

        Raises:
            NotFoundError: Absent, expired, or somebody else's.
            ForbiddenError: No chat grant on its agent: a key limited to something else.
        """
        chat = await self.rows.by_id(chat_id)
        if chat is None:
            raise _missing()
        self.agents.require_chat(chat.agent_namespace or "", chat.agent_name or "")
        return chat

    async def listing(
        self, *, include_archived: bool, query: str | None, cursor: str | None, limit: int
    ) -> tuple[list[Chat], bool]:
        """The caller's chats, most recently changed first, and whether there are more."""
        found = await self.rows.listing(
            include_archived=include_archived, query=query, cursor=cursor, limit=limit + 1
        )
        return found[:limit], len(found) > limit

    async def update(self, chat_id: UUID, data: ChatUpdate) -> Chat:
        """Rename, archive or restore.

        Raises:
            NotFoundError: Absent, expired, or somebody else's.
            ConflictError: Restoring would give its session two live chats.
        """
        chat = await self.get(chat_id)
        for key, value in data.model_dump(exclude_unset=True, exclude_none=True).items():
            setattr(chat, key, value)
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise ConflictError(
                "This chat's session goes on in a newer chat; archive that one first."
            ) from error
        await self.unit.session.refresh(chat)
        return chat

    async def archive(self, chat_id: UUID) -> None:
        """Hide a chat from lists; its messages stay.

        Raises:
            NotFoundError: Absent, expired, or somebody else's.
        """
        (await self.get(chat_id)).archived = True

    async def send(
        self,
        chat_id: UUID,
        content: Content,
        settings: Settings,
        channel_id: str | None = None,
        *,
        inject: bool = False,
    ) -> StartedTurn:
        """Store a user message and queue the turn that answers it, in one statement.

        `channel_id` is for callers who listen before anything can be said. With `inject`, a
        message for a chat whose turn is at work goes into that turn.

        Raises:
            NotFoundError: No such chat.
            ForbiddenError: Somebody else's chat, or no chat grant on its agent.
            ConflictError: Its agent was switched off.
        """
        chat, is_switched_off = await self._own(chat_id)
        if is_switched_off:
            raise ConflictError(
                f"Agent '{chat.agent_namespace}/{chat.agent_name}' is not active; this chat goes "
                "on when it is again."
            )
        return await self._start(chat, content, settings, channel_id=channel_id, inject=inject)

    async def stop(self, chat_id: UUID) -> int:
        """Stop the chat's turns, with all that they started; how many there were.

        Raises:
            NotFoundError: No such chat.
            ForbiddenError: Somebody else's chat, or no chat grant on its agent.
        """
        await self.sendable(chat_id)
        live = await self.rows.live_turns(chat_id)
        for turn_id in live:
            await stop_turn(self.unit, turn_id)
        return len(live)

    async def sendable(self, chat_id: UUID) -> Chat:
        """A chat the caller may talk in; its agent may have been deleted.

        Raises:
            NotFoundError: No such chat.
            ForbiddenError: Somebody else's chat, or no chat grant on its agent.
        """
        chat, _ = await self._own(chat_id)
        return chat

    async def _own(self, chat_id: UUID) -> tuple[Chat, bool]:
        found = await self.rows.of_anybody(chat_id)
        if found is None:
            raise _missing()
        chat, is_switched_off = found
        if chat.user_id != self.principal.user_id:
            raise ForbiddenError("Not authorized to use this chat")
        self.agents.require_chat(chat.agent_namespace or "", chat.agent_name or "")
        return chat, is_switched_off

    async def delegate(
        self,
        agent: Agent,
        given: JsonObject,
        prompt: str,
        delegation: Delegation,
        settings: Settings,
        *,
        chat_id: UUID | None = None,
    ) -> StartedTurn:
        """Queue a sub-agent's turn, in a chat of its own or in the one it had before.

        Whether the caller may chat with the agent was checked when it was offered.

        Raises:
            NotFoundError: `chat_id` is no chat of the caller with this agent.
            ConflictError: Its turn waits for the very call.
            BadRequestError: `given` does not match the agent's input schema.
        """
        if chat_id is None:
            chat = await self._new(
                agent,
                given=given,
                title=f"Sub-chat: {agent.name}",
                parent_chat_id=delegation.chat_id,
                root_chat_id=delegation.root_chat_id,
            )
        else:
            chat = await self.get(chat_id)
            if chat.agent_id != agent.id:
                raise NotFoundError(f"Chat '{chat_id}' is not one with this agent.")
            above = await self.unit.session.scalars(CHATS_ABOVE, {"call_key": delegation.call_key})
            if chat_id in above.all():
                raise ConflictError(f"Chat '{chat_id}' waits for this call; begin a new one.")
        limit = agent.default_job_timeout or settings.chat.delegate_timeout
        return await self._start(chat, prompt, settings, limit_seconds=limit, delegation=delegation)

    async def invoke(
        self,
        namespace: str,
        name: str,
        data: InvokeRequest,
        settings: Settings,
        *,
        inject: bool = False,
    ) -> StartedTurn:
        """Queue a message in a session's chat, or in a chat of its own; `inject` as in `send`.

        Raises:
            NotFoundError: The agent is absent or inactive.
            ForbiddenError: No chat grant, or the session is somebody else's.
            BadRequestError: `input` does not match the agent's input schema.
        """
        agent = await self.agents.for_chat(namespace, name)
        chat = await self._invoked(agent, data)
        limit = agent.default_job_timeout or settings.function.timeout
        return await self._start(chat, data.message, settings, limit_seconds=limit, inject=inject)

    async def _invoked(self, agent: Agent, data: InvokeRequest) -> Chat:
        """The chat of the call's session, made if there is none."""
        title = f"invoke:{data.session_key or 'one-shot'}"
        if data.session_key is None:
            return await self._new(agent, given=data.input, title=title)
        chat, _ = await self._in_session(
            agent, data.session_key, reset=bool(data.reset), given=data.input, title=title
        )
        return chat

    async def _in_session(
        self,
        agent: Agent,
        session_key: str,
        *,
        reset: bool = False,
        given: JsonObject | None,
        title: str,
    ) -> tuple[Chat, bool]:
        """The chat of a session, made if there is none, and whether it was."""
        chat = await self._session(agent, session_key, reset=reset)
        if chat is not None:
            return chat, False
        try:
            async with self.unit.session.begin_nested():
                chat = await self._new(agent, given=given, title=title, session_key=session_key)
                return chat, True
        except ConflictError:
            # A call beside this one has just made it, and committed: the insert waited for that.
            chat = await self._session(agent, session_key, reset=False)
            if chat is None:
                raise
            return chat, False

    async def _session(self, agent: Agent, session_key: str, *, reset: bool) -> Chat | None:
        chat = await self.rows.session_chat(agent.id, session_key)
        if chat is None:
            return None
        if chat.user_id != self.principal.user_id:
            raise ForbiddenError("Not authorized to use this session")
        if not reset:
            return chat
        chat.archived = True
        # Before the new chat's insert: only one live chat may hold the session key.
        await self.unit.session.flush()
        return None

    async def _new(self, agent: Agent, *, given: JsonObject | None, **fields: Any) -> Chat:
        agent_input = validated_input(agent, given)
        chat = Chat(**chat_columns(agent, self.principal.user_id, agent_input, **fields))
        self.unit.session.add(chat)
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise ConflictError(
                "Another request has just started this session; send the message again."
            ) from error
        if said := await initial_messages(agent, chat.id, agent_input):
            await self.unit.session.execute(insert(Message), said)
        return chat

    async def _start(
        self,
        chat: Chat,
        content: Content,
        settings: Settings,
        *,
        limit_seconds: int | None = None,
        channel_id: str | None = None,
        inject: bool = False,
        delegation: Delegation | None = None,
        overrides: Overrides | None = None,
    ) -> StartedTurn:
        started = StartedTurn(
            turn_id=uuid7(),
            channel_id=channel_id or str(uuid4()),
            chat_id=chat.id,
            keep_alive=bool(chat.keep_alive) or delegation is not None,
            timeout_seconds=limit_seconds or chat.job_timeout or settings.chat.agent_job_timeout,
            message_id=uuid7(),
        )
        lane = agent_lane(
            settings.function, depth=self.principal.depth, is_sub_agent=delegation is not None
        )
        stored = await self.unit.session.execute(
            START,
            {
                "turn_id": started.turn_id,
                "chat_id": chat.id,
                "user_id": self.principal.user_id,
                "access": self.principal.limit_map,
                "parent_execution_id": self.principal.execution_id,
                "parent_call_id": delegation and delegation.call_key,
                "depth": delegation.depth if delegation else 0,
                "lane": lane,
                "inject": inject,
                "overrides": overrides.dump() if overrides else None,
                "traceparent": current_span().traceparent,
                "channel_id": started.channel_id,
                "keep_alive": started.keep_alive,
                "timeout_seconds": started.timeout_seconds,
                "message_id": started.message_id,
                "content": stored_content(content),
            },
        )
        row = stored.first()
        if row is None:  # purged in this moment
            raise _missing()
        if row.injected:
            return replace(started, turn_id=row.id, channel_id=row.channel_id, injected=True)
        push_turn_row(self.unit, started.turn_id, 0, lane)
        return started


_MAX_LIFE_SECONDS = 100 * 365 * 86_400


def stored_content(content: Content) -> str:
    """A message as it is kept: text as it is, parts as JSON text."""
    if isinstance(content, str):
        return content
    parts: Sequence[JsonObject] = [part.model_dump(exclude_none=True) for part in content]
    return orjson.dumps(parts).decode()


def _missing() -> NotFoundError:
    return NotFoundError("Chat not found")
