"""SQL of database connections. They have no owner: whoever holds the permission sees all."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.kit.ids import uuid7
from sinas.models import DatabaseAnnotation, DatabaseConnection


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

    async def types(self, connection_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The type of each, those that are there."""
        statement = select(DatabaseConnection.id, DatabaseConnection.connection_type).where(
            DatabaseConnection.id.in_(connection_ids), DatabaseConnection.deleted_at.is_(None)
        )
        return {row.id: row.connection_type for row in await self.session.execute(statement)}

    async def annotations(self, connection_id: UUID) -> Sequence[DatabaseAnnotation]:
        """What is said of its tables; a table before its columns."""
        statement = (
            select(DatabaseAnnotation)
            .where(DatabaseAnnotation.database_connection_id == connection_id)
            .order_by(
                DatabaseAnnotation.schema_name,
                DatabaseAnnotation.table_name,
                DatabaseAnnotation.column_name.nulls_first(),
            )
        )
        return (await self.session.scalars(statement)).all()

    async def annotate(self, connection_id: UUID, rows: Sequence[dict[str, Any]]) -> None:
        """Insert, or replace what is said of the same table or column."""
        if not rows:
            return
        new = insert(DatabaseAnnotation).values(
            [{"id": uuid7(), "database_connection_id": connection_id, **row} for row in rows]
        )
        await self.session.execute(
            new.on_conflict_do_update(
                index_elements=[
                    "database_connection_id",
                    "schema_name",
                    "table_name",
                    "column_name",
                ],
                set_={
                    "display_name": new.excluded.display_name,
                    "description": new.excluded.description,
                    "updated_at": func.now(),
                },
            )
        )
