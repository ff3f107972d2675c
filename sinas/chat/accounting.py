"""What the model calls of a turn used and cost, and whether the next one may be made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.errors import RateLimitedError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.llm.base import Provider, Usage
from sinas.llm.prices import find_price
from sinas.models import ModelCall

_NOTHING: Final = Usage(0, 0, 0)

BUDGETS: Final = text(
    """
    SELECT budgets.name, budgets.limit_usd, budgets.limit_tokens, budgets.warn_at,
           used.spent_usd, used.spent_tokens
    FROM budgets CROSS JOIN LATERAL (
        SELECT COALESCE(SUM(cost_usd), 0) AS spent_usd,
               COALESCE(SUM(total_tokens), 0) AS spent_tokens
        FROM model_calls AS made
        WHERE made.created_at >= :since
          AND (budgets.for_user_id IS NULL OR made.user_id = budgets.for_user_id)
          AND (budgets.agent_namespace IS NULL OR (
               made.agent_namespace IS NOT NULL
               AND budgets.agent_namespace IN ('*', made.agent_namespace)
               AND budgets.agent_name IN ('*', made.agent_name)))
    ) AS used
    WHERE budgets.is_active
      AND (budgets.for_user_id IS NULL OR budgets.for_user_id = :user_id)
      AND (budgets.agent_namespace IS NULL OR (
           budgets.agent_namespace IN ('*', :agent_namespace)
           AND budgets.agent_name IN ('*', :agent_name)))
    ORDER BY budgets.created_at, budgets.id
    """
).bindparams(bindparam("user_id"), bindparam("since"))
"""Active budgets that a call falls under, each with what was spent of it since the day began.

Agents are null for models that are asked directly: those fall under budgets without an agent."""


class BudgetExceededError(RateLimitedError):
    """A budget is spent: the call was not made."""

    code = "budget_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a turn's model calls came to.

    Attributes:
        usage: Of the whole turn so far, as its row has it.
        calls: Those made since the last write (`call_record`).
        agent: Namespace and name.
    """

    usage: JsonObject
    calls: Sequence[JsonObject]
    agent: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A budget that is spent for the most part.

    `spent` and `limit` are USD or tokens, as `unit` says.
    """

    budget: str
    spent: float
    limit: float
    unit: str
    resets_at: datetime


async def check_budgets(
    session: AsyncSession, user_id: UUID, agent: tuple[str, str] | None
) -> list[Spending]:
    """The budgets that a call is about to use up; one query.

    Raises:
        BudgetExceededError: One is spent; it is named, and when it begins anew.
    """
    begin = day_begin()
    keys = {
        "user_id": user_id,
        "since": begin,
        "agent_namespace": agent[0] if agent else None,
        "agent_name": agent[1] if agent else None,
    }
    resets_at = begin + timedelta(days=1)
    warned = []
    for row in (await session.execute(BUDGETS, keys)).all():
        for spent, limit, unit in (
            (row.spent_usd, row.limit_usd, "usd"),
            (row.spent_tokens, row.limit_tokens, "tokens"),
        ):
            if limit is None:
                continue
            spending = Spending(
                budget=row.name,
                spent=float(spent),
                limit=float(limit),
                unit=unit,
                resets_at=resets_at,
            )
            if spent >= limit:
                raise exceeded(spending)
            if float(spent) >= float(limit) * row.warn_at:
                warned.append(spending)
    return warned


def day_begin() -> datetime:
    """When the current day began, in UTC."""
    return utcnow().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def seconds_to_reset() -> int:
    """Until budgets begin anew."""
    return int((day_begin() + timedelta(days=1) - utcnow()).total_seconds()) + 1


def exceeded(spending: Spending) -> BudgetExceededError:
    """The error of a spent budget."""
    unit = "USD" if spending.unit == "usd" else "tokens"
    return BudgetExceededError(
        f"The budget '{spending.budget}' of {spending.limit:g} {unit} a day is spent "
        f"({spending.spent:g} {unit}); it begins anew at {spending.resets_at:%Y-%m-%d %H:%M} UTC.",
        retry_after_seconds=seconds_to_reset(),
    )


def call_record(
    provider: Provider,
    config: JsonObject,
    model: str,
    usage: Usage | None,
    *,
    duration_ms: int,
    error_code: str | None = None,
) -> JsonObject:
    """One model call as the journal stores it."""
    used = usage or _NOTHING
    price = find_price(provider.type, provider.endpoint, model, config)
    cost = None if price is None or usage is None else price.of(used)
    return {
        "id": str(uuid7()),
        "provider": provider.name,
        "model": model,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "cache_read_tokens": used.cache_read_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        "cost_usd": None if cost is None else str(cost),
        "duration_ms": duration_ms,
        "error_code": error_code,
    }


def rows_of(calls: Sequence[JsonObject], **common: Any) -> list[Mapping[str, Any]]:
    """Records as rows to insert; `common` is whose they are."""
    return [
        {
            **call,
            "id": UUID(str(call["id"])),
            "cost_usd": None if call["cost_usd"] is None else Decimal(str(call["cost_usd"])),
            **common,
        }
        for call in calls
    ]


async def record_direct(app: AppContext, user_id: UUID, call: JsonObject) -> None:
    """Store a call of a provider's model that was asked without an agent."""
    async with app.statement_unit() as unit:
        await unit.session.execute(insert(ModelCall), rows_of([call], user_id=user_id))
