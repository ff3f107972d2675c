"""Which driver opens which type."""

from sinas.databases import postgresql
from sinas.databases.base import Database, DatabaseTarget, UnreachableError


async def open_database(target: DatabaseTarget) -> Database:
    """A pool of connections, at least one of which is open.

    Raises:
        UnreachableError: No connection, or no driver knows the type.
        DriverMissingError: The driver's library is not installed.
    """
    match target.connection_type:
        case "postgresql":
            return await postgresql.open_database(target)
        case _:
            raise UnreachableError(f"There is no driver for '{target.connection_type}' databases.")
