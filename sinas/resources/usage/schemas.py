"""Answers of the usage operations."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from sinas.kit.json_types import JsonObject

GroupBy = Literal["day", "agent", "user", "provider", "model", "chat"]


class UsageTotals(BaseModel):
    """Model calls and what they cost; `cost_usd` is null when no call had a price."""

    calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class UsageRow(UsageTotals):
    """One group. `key` is a day (UTC), `namespace/name`, a name or an id; null where there is none."""

    key: str | None


class UsageReport(BaseModel):
    """Usage by group, the largest cost first (days in order), and of all groups together."""

    group_by: GroupBy
    start: datetime
    end: datetime
    items: list[UsageRow]
    totals: UsageTotals


class TurnUsageRead(BaseModel):
    """What one turn of a chat used. Sub-agents' turns are those of their own chats."""

    turn_id: UUID
    created_at: datetime
    status: str
    usage: JsonObject
