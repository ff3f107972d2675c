"""Rules of queries."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.databases.checks import check_single
from sinas.databases.parameters import parse
from sinas.errors import BadRequestError, FieldError, ForbiddenError, NotFoundError
from sinas.kit.crypto import Cipher
from sinas.models import Query
from sinas.resources.database_connections.service import connection_target, is_connection
from sinas.resources.queries.repository import QueryRepository
from sinas.resources.queries.running import Prepared
from sinas.resources.queries.schemas import QueryCreate, QueryUpdate


class QueryService(CrudService[Query, QueryCreate, QueryUpdate]):
    """Operations on queries, for one caller."""

    repository = QueryRepository
    noun = "query"
    rows: QueryRepository

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Query]:
        """Queries the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    async def prepared(self, namespace: str, name: str, cipher: Cipher) -> Prepared:
        """Everything needed to run a query when this transaction is over.

        Raises:
            NotFoundError: Absent, not visible, or switched off; or its connection is gone.
            ForbiddenError: Visible, but no execute grant.
            InactiveConnectionError: Its connection is switched off.
        """
        row = await self.changeable(namespace, name, "execute")
        if not row.is_active:
            raise NotFoundError(f"Query '{namespace}/{name}' is inactive")
        target = await connection_target(self.unit.session, cipher, row.database_connection_id)
        return Prepared(query=row, target=target, caller=self.principal)

    @override
    async def check(self, values: dict[str, Any], row: Query | None) -> None:
        if row is not None:
            namespace, name = values.get("namespace", row.namespace), values.get("name", row.name)
            is_renamed = (namespace, name) != (row.namespace, row.name)
            if is_renamed and not self.principal.can_create("queries", namespace, name):
                raise ForbiddenError(f"Not authorized to name a query '{namespace}/{name}'.")
        if "sql" in values:
            check_single(parse(values["sql"], "postgresql"))
        if "database_connection_id" in values:
            connection_id = values["database_connection_id"]
            if not await is_connection(self.unit.session, connection_id):
                raise BadRequestError(
                    "database_connection_id names no database connection.",
                    [FieldError("database_connection_id", "names no database connection")],
                )

    @override
    async def delete(self, namespace: str, name: str) -> None:
        row = await self.changeable(namespace, name, "delete")
        row.deleted_at = func.now()
        row.is_active = False
