"""Management operations of messages."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import ColumnElement, func, select

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.kit.time import utcnow
from sinas.models import Chat, Message, User
from sinas.resources.messages.schemas import (
    AgentCount,
    DayCount,
    MessageListed,
    MessagePage,
    MessageStats,
)
from sinas.web.deps import CREDENTIALS, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/messages", tags=["messages"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Reader = Annotated[Principal, Depends(permitted("executions", "read"))]
_day = func.to_char(func.timezone("UTC", Message.created_at), "YYYY-MM-DD")
_agent = Chat.agent_namespace + "/" + Chat.agent_name
_MOST_AGENTS = 50


@router.get("")
async def list_messages(
    unit: InUnit,
    principal: Reader,
    agent: Annotated[str | None, Query(description="`namespace/name`.")] = None,
    role: Annotated[str | None, Query(description="user, assistant, tool or system.")] = None,
    search: Annotated[str | None, Query(description="Text that the content has.")] = None,
    limit: LimitQuery = 50,
    offset: SkipQuery = 0,
) -> MessagePage:
    """List messages of one's own chats, newest first; of all with `sinas.executions.read:all`."""
    wanted = _visible(principal)
    if agent is not None:
        namespace, _, name = agent.partition("/")
        wanted += [Chat.agent_namespace == namespace, Chat.agent_name == name]
    if role is not None:
        wanted.append(Message.role == role)
    if search:
        wanted.append(Message.content.icontains(search, autoescape=True))
    statement = (
        select(Message, Chat, User.email)
        .join(Chat, Chat.id == Message.chat_id)
        .join(User, User.id == Chat.user_id)
        .where(*wanted)
    )
    total = await unit.session.scalar(
        select(func.count()).select_from(statement.with_only_columns(Message.id).subquery())
    )
    page = statement.order_by(Message.seq.desc()).offset(offset).limit(limit)
    rows = (await unit.session.execute(page)).all()
    return MessagePage(
        messages=[_listed(*row) for row in rows], total=total or 0, limit=limit, offset=offset
    )


@router.get("/stats")
async def get_message_stats(
    unit: InUnit, principal: Reader, days: Annotated[int, Query(ge=1, le=90)] = 7
) -> MessageStats:
    """Count the messages of the last days by role, day and agent."""
    wanted = [*_visible(principal), Message.created_at >= utcnow() - timedelta(days=days)]

    async def counted(key: Any, limit: int = 1000) -> dict[str, int]:
        statement = (
            select(key, func.count())
            .select_from(Message)
            .join(Chat, Chat.id == Message.chat_id)
            .where(*wanted, key.is_not(None))
            .group_by(key)
            .order_by(func.count().desc(), key)
            .limit(limit)
        )
        return {row[0]: row[1] for row in (await unit.session.execute(statement)).all()}

    by_role = await counted(Message.role)
    by_day = await counted(_day)
    by_agent = await counted(_agent, _MOST_AGENTS)
    chats = await unit.session.scalar(
        select(func.count(Message.chat_id.distinct()))
        .select_from(Message)
        .join(Chat, Chat.id == Message.chat_id)
        .where(*wanted)
    )
    return MessageStats(
        days=days,
        total_messages=sum(by_role.values()),
        total_chats=chats or 0,
        by_role=by_role,
        by_day=[DayCount(date=day, count=count) for day, count in sorted(by_day.items())],
        by_agent=[AgentCount(agent=name, count=count) for name, count in by_agent.items()],
    )


def _visible(principal: Principal) -> list[ColumnElement[bool]]:
    if principal.can("sinas.executions.read:all"):
        return []
    return [Chat.user_id == principal.user_id]


def _listed(message: Message, chat: Chat, email: str) -> MessageListed:
    return MessageListed(
        id=message.id,
        chat_id=chat.id,
        chat_title=chat.title,
        user_id=chat.user_id,
        user_email=email,
        agent_namespace=chat.agent_namespace,
        agent_name=chat.agent_name,
        role=message.role,
        content=message.content,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
        created_at=message.created_at,
    )
