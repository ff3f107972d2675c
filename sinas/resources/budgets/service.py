"""Rules of budgets: admins limit what agents and users may spend in a day."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.crud.service import duplicate
from sinas.db.unit import Unit
from sinas.errors import FieldError, InvalidInputError, NotFoundError
from sinas.models import Budget, User
from sinas.resources.budgets.schemas import BudgetCreate, BudgetRead, BudgetUpdate


class BudgetService:
    """For callers whose permission was checked: budgets have no owners."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.session = unit.session
        self.principal = principal

    async def page(self, *, skip: int, limit: int) -> Sequence[BudgetRead]:
        """Budgets, newest first."""
        statement = (
            select(Budget)
            .order_by(Budget.created_at.desc(), Budget.id.desc())
            .offset(skip)
            .limit(limit)
        )
        return [_read(row) for row in (await self.session.scalars(statement)).all()]

    async def get(self, budget_id: UUID) -> BudgetRead:
        """One budget.

        Raises:
            NotFoundError: No such budget.
        """
        return _read(await self._found(budget_id))

    async def create(self, data: BudgetCreate) -> BudgetRead:
        """A new budget, in force from the next model call on.

        Raises:
            InvalidInputError: No such user.
            DuplicateError: The name is taken.
        """
        if data.user_id is not None and await self.session.get(User, data.user_id) is None:
            message = f"User '{data.user_id}' not found"
            raise InvalidInputError(f"user_id: {message}", [FieldError("user_id", message)])
        namespace, _, name = (data.agent or "").partition("/")
        row = Budget(
            agent_namespace=namespace or None,
            agent_name=name or None,
            for_user_id=data.user_id,
            **data.model_dump(exclude={"agent", "user_id"}),
        )
        self.session.add(row)
        return await self._stored(row)

    async def update(self, budget_id: UUID, data: BudgetUpdate) -> BudgetRead:
        """Change what `data` carries.

        Raises:
            NotFoundError: No such budget.
            InvalidInputError: No limit would be left.
            DuplicateError: The new name is taken.
        """
        row = await self._found(budget_id)
        for key, value in data.model_dump(include=data.model_fields_set).items():
            if value is not None or key.startswith("limit_"):
                setattr(row, key, value)
        if row.limit_usd is None and row.limit_tokens is None:
            message = "one of limit_usd and limit_tokens must be left"
            raise InvalidInputError(message, [FieldError("limit_usd", message)])
        return await self._stored(row)

    async def delete(self, budget_id: UUID) -> None:
        """Lift a limit.

        Raises:
            NotFoundError: No such budget.
        """
        await self.session.delete(await self._found(budget_id))

    async def _stored(self, row: Budget) -> BudgetRead:
        name = row.name
        try:
            await self.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"budget '{name}'") from error
        # For the times and numbers as the database has them.
        await self.session.refresh(row)
        return _read(row)

    async def _found(self, budget_id: UUID) -> Budget:
        row = await self.session.get(Budget, budget_id)
        if row is None:
            raise NotFoundError(f"Budget '{budget_id}' not found")
        return row


def _read(row: Budget) -> BudgetRead:
    return BudgetRead(
        id=row.id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        name=row.name,
        agent=f"{row.agent_namespace}/{row.agent_name}" if row.agent_namespace else None,
        user_id=row.for_user_id,
        limit_usd=None if row.limit_usd is None else float(row.limit_usd),
        limit_tokens=row.limit_tokens,
        warn_at=row.warn_at,
        is_active=row.is_active,
    )
