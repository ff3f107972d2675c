"""Rows of chats. A chat is its owner's; nobody else lists or reads it."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Tuple,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.auth.permissions import PathGrant
from sinas.chat.asking import FOR_PEOPLE, live_below
from sinas.crud.repository import Repository
from sinas.errors import InvalidInputError
from sinas.models import LIVE_TURN, Agent, Chat, Message, ToolCall, ToolCallStatus, Turn


class ChatRepository(Repository[Chat]):
    """The caller's chats. Expired ones are gone although the purge comes later."""

    model = Chat
    resource = "chats"

    @override
    def readable(self, action: str = "read") -> ColumnElement[bool]:
        del action  # owners may do everything with their chats
        groups = self.principal.path_grants("agents", "chat")
        return and_(
            Chat.user_id == self.principal.user_id,
            _not_expired(),
            *(or_(false(), *map(_about, group)) for group in groups),
        )

    async def of_anybody(self, chat_id: UUID) -> tuple[Chat, bool] | None:
        """A chat, whoever owns it, and whether its agent was switched off.

        For the sending routes, whose contract tells other people's chats from unknown ids.
        """
        row = (await self.session.execute(_OF_ANYBODY, {"chat_id": chat_id})).first()
        return None if row is None else (row[0], row[1] is not None)

    async def session_chat(self, agent_id: UUID, session_key: str) -> Chat | None:
        """The live chat of a session, of whichever user, kept from being deleted.

        No stronger lock: a turn that ends locks its own row first and the chat's then, a message
        for a chat that is locked already would lock them the other way round.
        """
        statement = (
            select(Chat)
            .where(
                Chat.agent_id == agent_id,
                Chat.session_key == session_key,
                ~Chat.archived,
                _not_expired(),
            )
            .with_for_update(read=True, key_share=True)
        )
        return await self.session.scalar(statement)

    async def listing(
        self, *, include_archived: bool, query: str | None, cursor: str | None, limit: int
    ) -> list[Chat]:
        """Newest first, up to `limit` rows behind `cursor`."""
        statement: Select[Chat] = self.visible()
        if not include_archived:
            statement = statement.where(~Chat.archived)
        if query:
            statement = statement.where(Chat.title.icontains(query, autoescape=True))
        if cursor:
            statement = statement.where(tuple_(Chat.updated_at, Chat.id) < _position(cursor))
        statement = statement.order_by(Chat.updated_at.desc(), Chat.id.desc()).limit(limit)
        return list((await self.session.scalars(statement)).all())

    async def messages(self, chat_id: UUID) -> Sequence[Message]:
        """All messages of a chat, in order."""
        statement = select(Message).where(Message.chat_id == chat_id).order_by(Message.seq)
        return (await self.session.scalars(statement)).all()

    async def call(self, chat_id: UUID, call_id: str) -> ToolCall | None:
        """A call of the chat, or of a sub-agent's below it, by the id that clients know."""
        statement = (
            select(ToolCall)
            .where(_within(chat_id), ToolCall.call_id == call_id)
            .order_by(ToolCall.chat_id != chat_id)
            .limit(1)
        )
        return await self.session.scalar(statement)

    async def live_turns(self, chat_id: UUID) -> Sequence[UUID]:
        """All turns of the chat that have not ended, in the order they are to be locked in."""
        statement = (
            select(Turn.id)
            .where(Turn.chat_id == chat_id, Turn.status.in_(LIVE_TURN))
            .order_by(Turn.id)
        )
        return (await self.session.scalars(statement)).all()

    async def undecided(
        self, *, skip: int, limit: int
    ) -> Sequence[Row[ToolCall, UUID, UUID | None, str, str | None, str | None]]:
        """Calls in any of the caller's chats that wait for a decision, with their chats."""
        statement = (
            select(
                ToolCall,
                Chat.id,
                Chat.root_chat_id,
                Chat.title,
                Chat.agent_namespace,
                Chat.agent_name,
            )
            .join(Chat, Chat.id == ToolCall.chat_id)
            .where(
                ToolCall.user_id == self.principal.user_id,
                ToolCall.status == ToolCallStatus.AWAITING_APPROVAL,
                self.readable(),
            )
            .order_by(ToolCall.created_at, ToolCall.position)
            .offset(skip)
            .limit(limit)
        )
        return (await self.session.execute(statement)).all()

    async def turn_of_channel(self, chat_id: UUID, channel_id: str) -> Turn | None:
        """The turn whose events that channel carries, if it is one of this chat."""
        statement = select(Turn).where(
            Turn.chat_id == chat_id,
            or_(Turn.channel_id == channel_id, Turn.past_channels.contains([channel_id])),
        )
        return await self.session.scalar(statement)


async def open_calls(session: AsyncSession, chat_id: UUID) -> Sequence[ToolCall]:
    """Calls of a chat and of its sub-agents' that wait for people, oldest first."""
    statement = (
        select(ToolCall)
        .where(_within(chat_id), ToolCall.status.in_(FOR_PEOPLE))
        .order_by(ToolCall.created_at, ToolCall.position)
    )
    return (await session.scalars(statement)).all()


def _within(chat_id: UUID) -> ColumnElement[bool]:
    """SQL: calls made in a chat, in those that sub-agents have below it, or for its turns now."""
    tree = select(Chat.id).where(or_(Chat.id == chat_id, Chat.root_chat_id == chat_id))
    below = live_below(Turn.chat_id == chat_id)
    return or_(ToolCall.chat_id.in_(tree), ToolCall.turn_id.in_(select(below.c.id)))


def _about(grant: PathGrant) -> ColumnElement[bool]:
    """SQL: chats with agents that a chat grant covers. Grants on own agents only cover none."""
    return and_(
        true() if grant.every_owner else false(),
        true() if grant.namespace is None else Chat.agent_namespace == grant.namespace,
        true() if grant.name is None else Chat.agent_name == grant.name,
    )


def _not_expired() -> ColumnElement[bool]:
    return or_(Chat.expires_at.is_(None), Chat.expires_at > func.now())


def cursor_of(chat: Chat) -> str:
    """Where a page that ended with `chat` goes on."""
    return base64.urlsafe_b64encode(f"{chat.updated_at.isoformat()}|{chat.id}".encode()).decode()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.astimezone(UTC)


def _position(cursor: str) -> Tuple:
    try:
        moment, _, chat_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return tuple_(_moment(moment), UUID(chat_id))
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            "cursor: use the X-Next-Cursor header of the page before, unchanged."
        ) from error


# Made once: every message that is sent asks it.
_OF_ANYBODY = (
    select(Chat, Agent.id)
    .outerjoin(
        Agent,
        and_(Agent.id == Chat.agent_id, Agent.is_active.is_(False), Agent.deleted_at.is_(None)),
    )
    .where(Chat.id == bindparam("chat_id"), _not_expired())
)
