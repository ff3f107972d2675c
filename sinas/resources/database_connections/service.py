"""Rules of database connections: admins manage them, and passwords only go in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import DATABASE_CHANGED_PREFIX
from sinas.crud.service import duplicate
from sinas.databases.base import DatabaseTarget
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
)
from sinas.kit.crypto import Cipher
from sinas.models import DatabaseAnnotation, DatabaseConnection
from sinas.models.databases import MANAGED_BY_SYSTEM
from sinas.resources.database_connections.repository import DatabaseConnectionRepository
from sinas.resources.database_connections.schemas import (
    Annotations,
    DatabaseConnectionCreate,
    DatabaseConnectionUpdate,
    unfit_option,
)
from sinas.resources.database_connections.targets import any_target_of, target_of

# What says how the built-in connection is used. Everything else says where it leads, and Sinas keeps
# that as it is: under another user, its socket would lead to Sinas' own tables.
_USE_OF_MANAGED = frozenset({"is_active", "read_only", "config"})


class ManagedConnectionError(ConflictError):
    """Sinas keeps this connection itself."""

    code = "database_connection_managed"


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

    async def create(self, data: DatabaseConnectionCreate) -> DatabaseConnection:
        """A new connection.

        Raises:
            DuplicateError: The name is taken.
            InvalidInputError: An option is not for this type.
        """
        _check_options(data.connection_type, data.config or {})
        row = DatabaseConnection(**self._values(data.model_dump()))
        self.unit.session.add(row)
        await self._flush(data.name)
        return row

    async def update(
        self, connection_id: UUID, data: DatabaseConnectionUpdate
    ) -> DatabaseConnection:
        """Change what `data` carries; pools with the old values are closed everywhere.

        Raises:
            NotFoundError: No such connection.
            DuplicateError: The new name is taken.
            InvalidInputError: An option is not for the type.
            BadRequestError: The host, or the user, is changed without giving the password anew.
            ManagedConnectionError: It is the built-in one, and more than how it is used is changed.
        """
        row = await self._locked(connection_id)
        values = self._values(data.model_dump(include=data.model_fields_set))
        if row.managed_by == MANAGED_BY_SYSTEM:
            _check_managed(row, values)
        is_moved = any(
            key in values and values[key] != getattr(row, key)
            for key in ("host", "port", "connection_type")
        )
        if is_moved and row.password_encrypted and "password_encrypted" not in values:
            # Or whoever may change a connection could have its password sent to their own server.
            raise BadRequestError(
                "Give the password anew: the stored one is not sent to another host or port.",
                [FieldError("password", "is needed when host, port or connection_type change")],
            )
        if "connection_type" in values or "config" in values:
            kind = values.get("connection_type", row.connection_type)
            _check_options(kind, values.get("config", row.config))
        for key, value in values.items():
            setattr(row, key, value)
        await self._flush(row.name)
        await self.unit.session.refresh(row)
        self._changed(row)
        return row

    async def delete(self, connection_id: UUID) -> None:
        """Forget the connection and its password; queries that name it say so when they run.

        Raises:
            NotFoundError: No such connection.
            ManagedConnectionError: It is the built-in one.
        """
        row = await self._locked(connection_id)
        if row.managed_by == MANAGED_BY_SYSTEM:
            raise ManagedConnectionError(
                f"'{row.name}' is Sinas' own and cannot be deleted; set is_active to false instead."
            )
        row.deleted_at = func.now()
        row.is_active = False
        row.password_encrypted = None
        self._changed(row)

    async def annotations(self, name: str) -> Sequence[DatabaseAnnotation]:
        """What is said of the tables of a connection, by table; a table before its columns.

        Raises:
            NotFoundError: No connection of that name.
        """
        return await self.rows.annotations((await self.by_name(name)).id)

    async def annotate(self, name: str, data: Annotations) -> int:
        """Write annotations over those of the same tables and columns; how many there were.

        Raises:
            NotFoundError: No connection of that name.
        """
        row = await self.by_name(name)
        # The last one counts: one statement cannot write a row twice.
        wanted = {
            (each.schema_name, each.table_name, each.column_name): each for each in data.annotations
        }
        await self.rows.annotate(row.id, [each.model_dump() for each in wanted.values()])
        return len(wanted)

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        password: SecretStr | None = values.pop("password", None)
        if password is not None:
            values["password_encrypted"] = self.cipher.encrypt(password.get_secret_value())
        return {key: value for key, value in values.items() if value is not None}

    async def _locked(self, connection_id: UUID) -> DatabaseConnection:
        return found(await self.rows.by_id(connection_id, for_update=True), str(connection_id))

    def _changed(self, row: DatabaseConnection) -> None:
        self.unit.publish(f"{DATABASE_CHANGED_PREFIX}{row.id}", b"")

    async def _flush(self, name: str) -> None:
        try:
            await self.unit.session.flush()
        except IntegrityError as error:
            raise duplicate(error, f"Database connection '{name}'") from error

    def target(self, row: DatabaseConnection) -> DatabaseTarget:
        """What `context.databases.database()` opens for it.

        Raises:
            InactiveConnectionError: It is switched off.
            UnreadablePasswordError: Its password cannot be decrypted.
        """
        return target_of(row, self.cipher)


def _check_options(connection_type: str, config: Mapping[str, object]) -> None:
    wrong = unfit_option(connection_type, config)
    if wrong is not None:
        raise InvalidInputError(f"config: {wrong}.", [FieldError("config", wrong)])


def _check_managed(row: DatabaseConnection, values: Mapping[str, Any]) -> None:
    wrong = sorted(
        key.removesuffix("_encrypted")
        for key, value in values.items()
        if key not in _USE_OF_MANAGED and value != getattr(row, key)
    )
    if wrong:
        raise ManagedConnectionError(
            f"'{row.name}' is Sinas' own: {', '.join(wrong)} cannot be changed; is_active, "
            "read_only and config can."
        )


def found(row: DatabaseConnection | None, name: str) -> DatabaseConnection:
    """The row.

    Raises:
        NotFoundError: There is none.
    """
    if row is None:
        raise NotFoundError(f"Database connection '{name}' not found")
    return row


async def connection_types(
    session: AsyncSession, connection_ids: Iterable[UUID]
) -> dict[UUID, str]:
    """The types of connections, active or not; one that is not there is left out."""
    return await DatabaseConnectionRepository(session).types(connection_ids)


async def connection_target(
    session: AsyncSession, cipher: Cipher, connection_id: UUID
) -> DatabaseTarget:
    """What to open for a row that names a connection; who made that row was allowed to.

    Raises:
        NotFoundError: The connection was deleted.
        InactiveConnectionError: It is switched off.
        UnreadablePasswordError: Its password cannot be decrypted.
    """
    row = await DatabaseConnectionRepository(session).by_id(connection_id)
    if row is None:
        raise NotFoundError(
            "The database connection was deleted; set database_connection_id to another."
        )
    return target_of(row, cipher)


def former_target(columns: Mapping[str, Any], cipher: Cipher) -> DatabaseTarget:
    """What to open for a connection as it was, gone or not: to take back what was made there.

    Args:
        columns: Those of its row that were kept, by name.
        cipher: What its password was encrypted by.

    Raises:
        UnreadablePasswordError: Its password cannot be decrypted.
    """
    target = any_target_of(DatabaseConnection(**columns), cipher)
    # No pool of its own; and what was made while changes were allowed goes when they no longer are.
    return replace(target, connection_id=None, read_only=False, min_pool_size=0)
