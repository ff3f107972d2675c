"""Generic repository: the SQL every resource shares. Each select starts from `visible()`."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.permissions import PathGrant
from sinas.auth.principal import Principal
from sinas.db.base import Base

M = TypeVar("M", bound=Base)


class Repository(Generic[M]):
    """Rows of one model, as one caller may see them.

    Subclasses set `model` and `resource` (the permission noun). Models without a `namespace`
    column override `readable`.
    """

    model: type[M]
    resource: str

    def __init__(self, session: AsyncSession, principal: Principal) -> None:
        self.session = session
        self.principal = principal

    def readable(self, action: str = "read") -> ColumnElement[bool]:
        """SQL: rows the caller may do `action` on, by path, scope and owner."""
        groups = self.principal.path_grants(self.resource, action)
        return and_(*(self._any_grant(group) for group in groups))

    def visible(self, action: str = "read") -> Select[M]:
        """The rows the caller may do `action` on."""
        return select(self.model).where(self.readable(action))

    def visible_to_system(self) -> Select[M]:
        """Every row. For the platform's own work, never for an answer to a caller."""
        return select(self.model)

    async def by_name(self, namespace: str, name: str, action: str = "read") -> M | None:
        """One row by its name, if the caller may do `action` on it."""
        return await self.session.scalar(self._named(self.visible(action), namespace, name))

    async def by_id(self, key: UUID, action: str = "read") -> M | None:
        """One row by id, if the caller may do `action` on it."""
        statement = self.visible(action).where(self._column("id") == key)
        return await self.session.scalar(statement)

    async def page(self, statement: Select[M], *, skip: int, limit: int) -> Sequence[M]:
        """One page of a statement that has its own order."""
        return (await self.session.scalars(statement.offset(skip).limit(limit))).all()

    def add(self, row: M) -> M:
        """Stage a new row; the unit flushes it."""
        self.session.add(row)
        return row

    def _named(self, statement: Select[M], namespace: str, name: str) -> Select[M]:
        return statement.where(self._column("namespace") == namespace, self._column("name") == name)

    def _any_grant(self, grants: Sequence[PathGrant]) -> ColumnElement[bool]:
        if any(g.namespace is None and g.name is None and g.every_owner for g in grants):
            return true()
        return or_(false(), *(self._grant(grant) for grant in grants))

    def _grant(self, grant: PathGrant) -> ColumnElement[bool]:
        conditions: list[ColumnElement[bool]] = []
        if grant.namespace is not None:
            conditions.append(self._column("namespace") == grant.namespace)
        if grant.name is not None:
            conditions.append(self._column("name") == grant.name)
        if not grant.every_owner:
            conditions.append(self._column("user_id") == self.principal.user_id)
        return and_(true(), *conditions)

    def _column(self, name: str) -> Any:
        return getattr(self.model, name)
