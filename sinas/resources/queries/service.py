"""Rules of queries."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.databases.checks import check_single
from sinas.databases.parameters import dialect_of, parse
from sinas.errors import BadRequestError, FieldError, ForbiddenError, NotFoundError
from sinas.kit.crypto import Cipher
from sinas.models import Query
from sinas.resources.database_connections.service import connection_target, connection_types
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
        if values.keys() & {"sql", "database_connection_id"}:
            await self._check_sql(values, row)

    async def _check_sql(self, values: dict[str, Any], row: Query | None) -> None:
        """As its database reads it, which may be another than before."""
        now = dict(values)
        if row is not None:
            now = {"sql": row.sql, "database_connection_id": row.database_connection_id} | now
        connection_id = now["database_connection_id"]
        types = await connection_types(self.unit.session, [connection_id])
        if "database_connection_id" in values and not types:
            raise BadRequestError(
                "database_connection_id names no database connection.",
                [FieldError("database_connection_id", "names no database connection")],
            )
        dialect = dialect_of(types.get(connection_id, ""))
        check_single(parse(now["sql"], dialect))

    @override
    async def delete(self, namespace: str, name: str) -> None:
        row = await self.changeable(namespace, name, "delete")
        row.deleted_at = func.now()
        row.is_active = False
