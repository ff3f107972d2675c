"""Management operations of usage."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, Moment, SkipQuery
from sinas.errors import FieldError, InvalidInputError
from sinas.kit.time import utcnow
from sinas.resources.usage.repository import filters, grouped
from sinas.resources.usage.schemas import GroupBy, UsageReport, UsageRow, UsageTotals
from sinas.web.deps import CREDENTIALS, InUnit, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["usage"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Reader = Annotated[Principal, Depends(permitted("executions", "read"))]
_DEFAULT_DAYS = 30


@router.get("/usage")
async def get_usage(
    unit: InUnit,
    principal: Reader,
    group_by: GroupBy = "day",
    start: Annotated[
        Moment | None, Query(alias="from", description="Left out: 30 days ago.")
    ] = None,
    end: Annotated[
        Moment | None, Query(alias="to", description="Not included; left out: now.")
    ] = None,
    agent: Annotated[str | None, Query(description="`namespace/name`.")] = None,
    provider: str | None = None,
    model: str | None = None,
    user_id: UUID | None = None,
    chat_id: UUID | None = None,
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> UsageReport:
    """Tokens and money of model calls, by day, agent, user, provider, model or chat.

    One's own; everybody's with `sinas.executions.read:all`. Days and times are UTC.
    """
    until = end or utcnow()
    since = start or until - timedelta(days=_DEFAULT_DAYS)
    if since >= until:
        raise InvalidInputError(
            "from: must be before `to`.", [FieldError("from", "must be before `to`")]
        )
    if not principal.can("sinas.executions.read:all"):
        if user_id not in (None, principal.user_id):
            return _report(group_by, since, until, [], None)
        user_id = principal.user_id
    wanted = filters(user_id=user_id, agent=agent, provider=provider, model=model, chat_id=chat_id)
    rows = await grouped(unit.session, group_by, since, until, wanted, skip=skip, limit=limit)
    [whole] = await grouped(unit.session, None, since, until, wanted)
    return _report(
        group_by, since, until, [UsageRow.model_validate(_plain(r)) for r in rows], whole
    )


def _report(
    group_by: GroupBy, start: datetime, end: datetime, items: list[UsageRow], whole: Any
) -> UsageReport:
    nothing = dict.fromkeys(UsageTotals.model_fields, 0) | {"cost_usd": None}
    totals = UsageTotals.model_validate(nothing if whole is None else _plain(whole))
    return UsageReport(group_by=group_by, start=start, end=end, items=items, totals=totals)


def _plain(row: Any) -> dict[str, Any]:
    found = dict(row._mapping)
    cost = found["cost_usd"]
    return found | {"cost_usd": None if cost is None else float(cost)}
