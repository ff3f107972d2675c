"""Triggers on tables of databases."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import DatabaseConnection, DatabaseTrigger, Function, User

_numbers = count(1)


async def make_trigger(
    context: AppContext,
    owner: User,
    connection: DatabaseConnection,
    function: Function,
    **columns: Any,
) -> DatabaseTrigger:
    """A trigger of `owner` on the table `items`, by its column `id`, due at once."""
    values: dict[str, Any] = {
        "name": f"trigger-{next(_numbers)}",
        "schema_name": "public",
        "table_name": "items",
        "operations": ["INSERT", "UPDATE"],
        "poll_column": "id",
        "poll_interval_seconds": 1,
        "batch_size": 100,
    }
    async with context.unit() as unit:
        row = DatabaseTrigger(
            user_id=owner.id,
            database_connection_id=connection.id,
            function_namespace=function.namespace,
            function_name=function.name,
            **(values | columns),
        )
        unit.session.add(row)
    return row
