"""Management operations of budgets."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.resources.budgets.schemas import BudgetCreate, BudgetRead, BudgetUpdate
from sinas.resources.budgets.service import BudgetService
from sinas.web.deps import CREDENTIALS, InUnit, permitted_everywhere
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/budgets", tags=["budgets"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _for(action: str) -> Callable[..., Awaitable[BudgetService]]:
    check = permitted_everywhere("budgets", action)

    async def build(unit: InUnit, principal: Annotated[Principal, Depends(check)]) -> BudgetService:
        return BudgetService(unit, principal)

    return build


Create = Annotated[BudgetService, Depends(_for("create"))]
Read = Annotated[BudgetService, Depends(_for("read"))]
Update = Annotated[BudgetService, Depends(_for("update"))]
Delete = Annotated[BudgetService, Depends(_for("delete"))]


@router.post("", status_code=201)
async def create_budget(data: BudgetCreate, budgets: Create) -> BudgetRead:
    """Limit what an agent, a user, or everybody may spend in a day (UTC)."""
    return await budgets.create(data)


@router.get("")
async def list_budgets(
    budgets: Read, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> Sequence[BudgetRead]:
    """List budgets, newest first."""
    return await budgets.page(skip=skip, limit=limit)


@router.get("/{budget_id}")
async def get_budget(budget_id: UUID, budgets: Read) -> BudgetRead:
    """Get one budget."""
    return await budgets.get(budget_id)


@router.patch("/{budget_id}")
async def update_budget(budget_id: UUID, data: BudgetUpdate, budgets: Update) -> BudgetRead:
    """Change a budget's limits; fields left out stay."""
    return await budgets.update(budget_id, data)


@router.delete("/{budget_id}", status_code=204)
async def delete_budget(budget_id: UUID, budgets: Delete) -> None:
    """Lift a limit."""
    await budgets.delete(budget_id)
