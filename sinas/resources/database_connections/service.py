"""Rules of database connections: admins manage them, and passwords only go in."""

from collections.abc import Sequence
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.databases.base import DatabaseTarget
from sinas.db.unit import Unit
from sinas.errors import NotFoundError
from sinas.kit.crypto import Cipher
from sinas.models import DatabaseConnection
from sinas.resources.database_connections.repository import DatabaseConnectionRepository
from sinas.resources.database_connections.targets import target_of


class DatabaseConnectionService:
    """For callers whose permission was checked: connections have no owners and no paths.

    Work that follows a row naming a connection (a query, a trigger) may use it too: who made
    that row was allowed to. Open the target with `context.databases.database(target)`, outside
    of any transaction of Sinas' own.
    """

    def __init__(self, unit: Unit, principal: Principal, cipher: Cipher) -> None:
        self.unit = unit
        self.principal = principal
        self.cipher = cipher
        self.rows = DatabaseConnectionRepository(unit.session)

    async def page(self, *, skip: int, limit: int) -> Sequence[DatabaseConnection]:
        """Connections by name."""
        return await self.rows.listed(skip=skip, limit=limit)

    async def by_name(self, name: str) -> DatabaseConnection:
        """One connection.

        Raises:
            NotFoundError: No connection of that name.
        """
        return found(await self.rows.by_name(name), name)

    async def by_id(self, connection_id: UUID) -> DatabaseConnection:
        """One connection.

        Raises:
            NotFoundError: No such connection.
        """
        return found(await self.rows.by_id(connection_id), str(connection_id))

    def target(self, row: DatabaseConnection) -> DatabaseTarget:
        """What `context.databases.database()` opens for it.

        Raises:
            InactiveConnectionError: It is switched off.
            UnreadablePasswordError: Its password cannot be decrypted.
        """
        return target_of(row, self.cipher)


def found(row: DatabaseConnection | None, name: str) -> DatabaseConnection:
    """The row.

    Raises:
        NotFoundError: There is none.
    """
    if row is None:
        raise NotFoundError(f"Database connection '{name}' not found")
    return row
