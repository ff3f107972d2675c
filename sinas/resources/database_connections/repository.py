"""SQL of database connections. They have no owner: whoever holds the permission sees all."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.models import DatabaseConnection


class DatabaseConnectionRepository:
    """Connections that were not deleted."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def _there(self) -> Select[DatabaseConnection]:
        return select(DatabaseConnection).where(DatabaseConnection.deleted_at.is_(None))

    async def listed(self, *, skip: int, limit: int) -> Sequence[DatabaseConnection]:
        """By name."""
        statement = self._there().order_by(DatabaseConnection.name).offset(skip).limit(limit)
        return (await self.session.scalars(statement)).all()

    async def by_name(self, name: str) -> DatabaseConnection | None:
        """One by its name."""
        return await self.session.scalar(self._there().where(DatabaseConnection.name == name))

    async def by_id(
        self, connection_id: UUID, *, for_update: bool = False
    ) -> DatabaseConnection | None:
        """One by its id."""
        statement = self._there().where(DatabaseConnection.id == connection_id)
        if for_update:
            statement = statement.with_for_update()
        return await self.session.scalar(statement)

    async def named(self, names: Collection[str]) -> Sequence[DatabaseConnection]:
        """The active ones of these names, by name."""
        statement = (
            self._there()
            .where(DatabaseConnection.name.in_(names), DatabaseConnection.is_active)
            .order_by(DatabaseConnection.name)
        )
        return (await self.session.scalars(statement)).all()
