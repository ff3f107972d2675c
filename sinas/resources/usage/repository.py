"""SQL of usage."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import ModelCall
from sinas.resources.usage.schemas import GroupBy

_agent = ModelCall.agent_namespace + "/" + ModelCall.agent_name
_KEYS: dict[GroupBy, ColumnElement[Any]] = {
    "day": func.to_char(func.timezone("UTC", ModelCall.created_at), "YYYY-MM-DD"),
    "agent": _agent,
    "user": cast(ModelCall.user_id, String),
    "provider": ModelCall.provider.expression,
    "model": ModelCall.model.expression,
    "chat": cast(ModelCall.chat_id, String),
}
_FIGURES: tuple[ColumnElement[Any], ...] = (
    func.count().filter(ModelCall.error_code.is_(None)).label("calls"),
    func.count(ModelCall.error_code).label("errors"),
    *(
        func.coalesce(func.sum(getattr(ModelCall, name)), 0).label(name)
        for name in (
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
        )
    ),
    func.sum(ModelCall.cost_usd).label("cost_usd"),
    func.count()
    .filter(ModelCall.cost_usd.is_(None), ModelCall.error_code.is_(None))
    .label("unpriced_calls"),
)


async def grouped(
    session: AsyncSession,
    group_by: GroupBy | None,
    start: datetime,
    end: datetime,
    wanted: Mapping[str, Any],
    *,
    skip: int = 0,
    limit: int = 1000,
) -> Sequence[Row[Any]]:
    """Figures of calls from `start` on and before `end`, by group; all in one row for None.

    `wanted` narrows by column; None values do not.
    """
    columns = _FIGURES if group_by is None else (_KEYS[group_by].label("key"), *_FIGURES)
    statement: Any = select(*columns).where(
        ModelCall.created_at >= start, ModelCall.created_at < end
    )
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(ModelCall, name) == value)
    if group_by is not None:
        key = _KEYS[group_by]
        first = [key] if group_by == "day" else [func.sum(ModelCall.cost_usd).desc().nulls_last()]
        statement = statement.group_by(key).order_by(*first, func.count().desc(), key)
        statement = statement.offset(skip).limit(limit)
    return (await session.execute(statement)).all()


def filters(
    *,
    user_id: UUID | None,
    agent: str | None,
    provider: str | None,
    model: str | None,
    chat_id: UUID | None,
) -> dict[str, Any]:
    """What `grouped` narrows by."""
    namespace, _, name = (agent or "").partition("/")
    return {
        "user_id": user_id,
        "agent_namespace": namespace or None,
        "agent_name": name or None,
        "provider": provider,
        "model": model,
        "chat_id": chat_id,
    }
