"""Database connections and queries, written through the models."""

from itertools import count
from typing import Any

from sqlalchemy import make_url

from sinas.context import AppContext
from sinas.models import DatabaseAnnotation, DatabaseConnection, Query, QueryOperation, User

_numbers = count(1)


async def make_connection(
    context: AppContext, url: str | None = None, **columns: Any
) -> DatabaseConnection:
    """A connection to `url`, else to the test's own database; by a socket, as no request can."""
    parsed = make_url(url or context.settings.database.url)
    password = columns.pop("password", parsed.password)
    values: dict[str, Any] = {
        "name": f"database-{next(_numbers)}",
        "connection_type": "postgresql",
        "host": str(parsed.query.get("host") or parsed.host),
        "port": parsed.port or 5432,
        "database": parsed.database,
        "username": parsed.username,
        "password_encrypted": None if password is None else context.cipher.encrypt(password),
        "config": {"min_pool_size": 0, "max_pool_size": 2},
    }
    async with context.unit() as unit:
        row = DatabaseConnection(**(values | columns))
        unit.session.add(row)
    return row


async def make_annotation(
    context: AppContext, connection: DatabaseConnection, table: str, **columns: Any
) -> DatabaseAnnotation:
    """What is said of a table, or with `column_name` of a column."""
    async with context.unit() as unit:
        row = DatabaseAnnotation(
            database_connection_id=connection.id,
            schema_name=columns.pop("schema_name", "public"),
            table_name=table,
            **columns,
        )
        unit.session.add(row)
    return row


async def make_query(
    context: AppContext, owner: User, connection: DatabaseConnection, sql: str, **columns: Any
) -> Query:
    """An active query of `owner`, one that reads unless told."""
    async with context.unit() as unit:
        row = Query(
            user_id=owner.id,
            namespace=columns.pop("namespace", "default"),
            name=columns.pop("name", None) or f"query-{next(_numbers)}",
            database_connection_id=connection.id,
            operation=columns.pop("operation", QueryOperation.READ),
            sql=sql,
            **columns,
        )
        unit.session.add(row)
    return row
