"""Rows of queries."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select
from typing_extensions import override

from sinas.crud.references import matching
from sinas.crud.repository import Repository
from sinas.models import Query


class QueryRepository(Repository[Query]):
    """Queries that were not deleted."""

    model = Query
    resource = "queries"

    @override
    def visible(self, action: str = "read") -> Select[Any]:
        """Rows the caller may do `action` on."""
        return super().visible(action).where(Query.deleted_at.is_(None))

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Query]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Query.created_at.desc(), Query.id.desc())
        if namespace is not None:
            statement = statement.where(Query.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)

    async def active_matching(self, references: Iterable[str]) -> Sequence[Query]:
        """Active ones that the references name and the caller may execute, by name."""
        references = list(references)
        if not references:
            return ()
        statement = (
            self.visible("execute")
            .where(Query.is_active, matching(Query, references))
            .order_by(Query.namespace, Query.name)
        )
        return (await self.session.scalars(statement)).all()
