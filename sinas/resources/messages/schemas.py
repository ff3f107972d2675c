"""Answers of the message operations."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from sinas.kit.json_types import JsonObject


class MessageListed(BaseModel):
    """A message with the chat it is from."""

    id: UUID
    chat_id: UUID
    chat_title: str
    user_id: UUID
    user_email: str
    agent_namespace: str | None
    agent_name: str | None
    role: str
    content: str | None
    tool_calls: list[JsonObject] | None
    tool_call_id: str | None
    name: str | None
    created_at: datetime


class MessagePage(BaseModel):
    """Messages, newest first. `total` counts all that match."""

    messages: list[MessageListed]
    total: int
    limit: int
    offset: int


class DayCount(BaseModel):
    """Messages of one day (UTC)."""

    date: str
    count: int


class AgentCount(BaseModel):
    """Messages in chats with one agent."""

    agent: str
    count: int


class MessageStats(BaseModel):
    """Messages of the last days."""

    days: int
    total_messages: int
    total_chats: int
    by_role: dict[str, int]
    by_day: list[DayCount]
    by_agent: list[AgentCount]
