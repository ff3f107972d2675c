"""Connections to databases, and triggers on their tables."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import make_url

from sinas.models import DatabaseConnection, DatabaseTrigger
from tests.factories.functions import make_function

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Function, User

_numbers = count(1)
# So that bodies that are written down can name it.
CONNECTION_ID = UUID("0191e0a0-0000-7000-8000-000000000001")


async def make_connection_to(
    context: AppContext, database_url: str, **columns: Any
) -> DatabaseConnection:
    """A connection to a PostgreSQL that the tests reach by that URL."""
    url = make_url(database_url)
    row = DatabaseConnection(
        **{
            "name": f"connection-{next(_numbers)}",
            "connection_type": "postgresql",
            "host": url.host or str(url.query.get("host", "127.0.0.1")),
            "port": url.port or 5432,
            "database": url.database,
            "username": url.username or "postgres",
            "password_encrypted": context.cipher.encrypt(url.password) if url.password else None,
            "ssl_mode": "disable",
            "config": {"min_pool_size": 1, "max_pool_size": 4},
            **columns,
        }
    )
    async with context.unit() as unit:
        unit.session.add(row)
    return row


async def make_trigger(
    context: AppContext,
    owner: User,
    connection: DatabaseConnection,
    function: Function,
    **columns: Any,
) -> DatabaseTrigger:
    """A trigger of `owner` on the table `items`, by its column `id`, due at once."""
    row = DatabaseTrigger(
        user_id=owner.id,
        database_connection_id=connection.id,
        function_namespace=function.namespace,
        function_name=function.name,
        **{
            "name": f"trigger-{next(_numbers)}",
            "schema_name": "public",
            "table_name": "items",
            "operations": ["INSERT", "UPDATE"],
            "poll_column": "id",
            "poll_interval_seconds": 1,
            "batch_size": 100,
            **columns,
        },
    )
    async with context.unit() as unit:
        unit.session.add(row)
    return row


async def make_watchable(context: AppContext, owner: User) -> None:
    """The function `on_change`, and a connection to the tests' own database, `CONNECTION_ID`."""
    await make_function(context, owner, name="on_change")
    await make_connection_to(
        context, context.settings.database.url, id=CONNECTION_ID, name="watchable"
    )
