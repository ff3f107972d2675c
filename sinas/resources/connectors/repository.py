"""Rows of connectors."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import selectinload
from typing_extensions import override

from sinas.crud.repository import Repository
from sinas.models import Connector


class ConnectorRepository(Repository[Connector]):
    """Connectors with their operations."""

    model = Connector
    resource = "connectors"

    @override
    def visible(self, action: str = "read") -> Select[Any]:
        """Rows the caller may do `action` on."""
        return super().visible(action).options(selectinload(Connector.operation_rows))

    async def locked(self, namespace: str, name: str, action: str) -> Connector | None:
        """One row by name that stays as it is until the transaction ends."""
        statement = self._named(self.visible(action), namespace, name).with_for_update()
        return await self.session.scalar(statement, execution_options={"populate_existing": True})

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Connector]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Connector.created_at.desc(), Connector.id.desc())
        if namespace is not None:
            statement = statement.where(Connector.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)
