"""Agents, chats, messages and turns."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import Agent, Chat, LlmProvider, Message, Turn, TurnStatus, User

_numbers = count(1)


async def make_agent(
    context: AppContext,
    owner: User | None,
    *,
    provider: LlmProvider | None = None,
    model: str | None = None,
    namespace: str = "default",
    name: str | None = None,
    **columns: Any,
) -> Agent:
    """An agent of `owner` that answers with `provider`'s `model`."""
    async with context.unit() as unit:
        row = Agent(
            user_id=None if owner is None else owner.id,
            namespace=namespace,
            name=name or f"agent-{next(_numbers)}",
            llm_provider_id=None if provider is None else provider.id,
            model=model,
            **columns,
        )
        unit.session.add(row)
    return row


async def make_chat(context: AppContext, user: User, agent: Agent | None, **columns: Any) -> Chat:
    """A chat of `user` with `agent`."""
    async with context.unit() as unit:
        row = Chat(
            user_id=user.id,
            agent_id=None if agent is None else agent.id,
            agent_namespace=None if agent is None else agent.namespace,
            agent_name=None if agent is None else agent.name,
            title=columns.pop("title", f"Chat {next(_numbers)}"),
            **columns,
        )
        unit.session.add(row)
    return row


async def make_message(
    context: AppContext, chat: Chat, role: str = "user", content: str | None = "hi", **columns: Any
) -> Message:
    """One message at the end of `chat`."""
    async with context.unit() as unit:
        row = Message(chat_id=chat.id, role=role, content=content, **columns)
        unit.session.add(row)
    return row


async def make_turn(
    context: AppContext, chat: Chat, status: TurnStatus = TurnStatus.QUEUED, **columns: Any
) -> Turn:
    """A turn of `chat`. Nothing is queued."""
    number = next(_numbers)
    async with context.unit() as unit:
        row = Turn(
            chat_id=chat.id,
            user_id=chat.user_id,
            channel_id=columns.pop("channel_id", f"channel-{number}"),
            status=status,
            timeout_seconds=columns.pop("timeout_seconds", 60),
            **columns,
        )
        unit.session.add(row)
    return row
