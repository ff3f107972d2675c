"""Rules of database triggers: what may be polled, what may be run, and whose it is."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.crud.service import duplicate
from sinas.databases.base import DatabaseError, DatabaseTarget, UnreachableError
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from sinas.models import DatabaseTrigger, TriggerMode
from sinas.resources.database_connections.service import DatabaseConnectionService
from sinas.resources.database_triggers import publications, slots, source
from sinas.resources.database_triggers.position import Bookmark
from sinas.resources.database_triggers.repository import DatabaseTriggerRepository
from sinas.resources.database_triggers.schemas import (
    NEEDS_COLUMN,
    SEES_NO_DELETES,
    DatabaseTriggerCreate,
    DatabaseTriggerUpdate,
    Operation,
)
from sinas.resources.functions.service import FunctionService

log = structlog.get_logger(__name__)

_WATCHED = frozenset({"mode", "poll_column", "operations"})
_FUNCTION = frozenset({"function_namespace", "function_name"})
_BOTH = [Operation.INSERT, Operation.UPDATE]


class DatabaseTriggerService:
    """Triggers of one caller. It opens transactions itself: none while a database is asked.

    A name means the caller's own trigger, and where they have none and may touch others', the
    only one of that name. In its place, an id means that trigger.
    """

    def __init__(self, context: AppContext, principal: Principal) -> None:
        self.context = context
        self.principal = principal

    async def page(self, *, skip: int, limit: int) -> Sequence[DatabaseTrigger]:
        """Triggers the caller may see, by name."""
        async with self.context.statement_unit() as unit:
            return await self._rows(unit).listed(skip=skip, limit=limit)

    async def get(self, name: str) -> DatabaseTrigger:
        """One trigger.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
            ConflictError: Several users have one of that name, and the caller has none.
        """
        async with self.context.statement_unit() as unit:
            return await self._readable(unit, name)

    async def create(self, data: DatabaseTriggerCreate) -> DatabaseTrigger:
        """A new trigger of the caller, which looks from now on.

        Raises:
            NotFoundError: There is no such connection or function, or it is inactive.
            ForbiddenError: The caller may not run the function.
            BadRequestError: The table cannot be watched so; the field is named.
            ConflictError: The slot waits too long for those who write.
            DuplicateError: The caller has a trigger of that name.
        """
        values = data.model_dump()
        async with self.context.statement_unit() as unit:
            await self._check_function(unit, values)
            target = await self._target(unit, data.database_connection_id)
        await self._check_table(target, values)
        async with self._start(target, values) as start, self.context.unit() as unit:
            row = self._rows(unit).add(
                DatabaseTrigger(
                    **values,
                    **start,
                    user_id=self.principal.user_id,
                    access=self.principal.limit_map,
                )
            )
            await _flush(unit, row)
        return row

    async def update(self, name: str, data: DatabaseTriggerUpdate) -> DatabaseTrigger:
        """Change what `data` carries. Whoever changes what is run limits it to what they hold.

        Raises:
            NotFoundError: Absent or not visible; or there is no such function.
            ForbiddenError: Visible, but no update grant; or the caller may not run the function.
            InvalidInputError: It is to poll, and there is no column for it, or deletes are asked for.
            BadRequestError: The table cannot be watched so; the field is named.
            ConflictError: The slot waits too long for those who write; or somebody else changed it.
            DuplicateError: Its owner has another trigger of the new name.
        """
        changes = {
            k: v for k, v in data.model_dump(include=data.model_fields_set).items() if v is not None
        }
        async with self.context.statement_unit() as unit:
            row = await self._changeable(unit, name, "update")
            before = _columns(row)
            changed = {key for key, value in changes.items() if before[key] != value}
            values = before | changes
            _check_mode(values)
            if changed & _FUNCTION:
                await self._check_function(unit, values)
            target = None
            if changed & _WATCHED:
                target = await self._target(unit, row.database_connection_id)
        if target is not None:
            await self._check_table(target, values)
        async with self._restart(target, values, changed) as start, self.context.unit() as unit:
            row = await self._changeable(unit, str(before["id"]), "update", for_update=True)
            if start:
                _check_unchanged(row, before)
            for key, value in (changes | start).items():
                setattr(row, key, value)
            if changed & _FUNCTION:
                row.access = self.principal.limit_map
            if changed - {"name", "batch_size"}:
                _start_anew(row)
            await _flush(unit, row)
        return row

    async def delete(self, name: str) -> None:
        """Forget a trigger; what it has started goes on.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no delete grant.
        """
        async with self.context.unit() as unit:
            await unit.session.delete(await self._changeable(unit, name, "delete"))

    async def reset(self, name: str, position: str) -> DatabaseTrigger:
        """Begin anew at `now` or at the `beginning` of the table.

        Raises:
            NotFoundError: Absent, or not visible.
            ForbiddenError: Visible, but no update grant.
            BadRequestError: By replication it cannot begin there, or not at all.
            ConflictError: The slot waits too long for those who write; or somebody else changed it.
        """
        async with self.context.statement_unit() as unit:
            row = await self._changeable(unit, name, "update")
            values = _columns(row)
            target = None
            if row.mode == TriggerMode.REPLICATION:
                target = await self._target(unit, row.database_connection_id)
        if target is not None:
            if position == "beginning":
                raise _refused(
                    "position",
                    "The log does not have the rows that were there before: a trigger by "
                    "replication begins anew at 'now'.",
                )
            await self._check_table(target, values)
        async with self._start(target, values) as start, self.context.unit() as unit:
            row = await self._changeable(unit, str(values["id"]), "update", for_update=True)
            _check_unchanged(row, values)
            if position == "beginning":
                start["bookmark"] = Bookmark().dump()
            for key, value in start.items():
                setattr(row, key, value)
            _start_anew(row)
            await _flush(unit, row)
        return row

    def _rows(self, unit: Unit) -> DatabaseTriggerRepository:
        return DatabaseTriggerRepository(unit.session, self.principal)

    async def _readable(self, unit: Unit, name: str) -> DatabaseTrigger:
        row = await self._named(unit, name, "read")
        if row is None:
            raise NotFoundError(f"Database trigger '{name}' not found")
        return row

    async def _named(
        self, unit: Unit, name: str, action: str, *, for_update: bool = False
    ) -> DatabaseTrigger | None:
        found = await self._rows(unit).named(name, action, for_update=for_update)
        if len(found) > 1:
            raise ConflictError(
                f"Several users have a database trigger '{name}'; give the id instead of the name."
            )
        return found[0] if found else None

    async def _changeable(
        self, unit: Unit, name: str, action: str, *, for_update: bool = False
    ) -> DatabaseTrigger:
        row = await self._named(unit, name, action, for_update=for_update)
        if row is None:
            await self._readable(unit, name)
            raise ForbiddenError(f"Not authorized to {action} database trigger '{name}'.")
        return row

    async def _check_function(self, unit: Unit, values: dict[str, Any]) -> None:
        namespace, name = values["function_namespace"], values["function_name"]
        self.principal.require(f"sinas.functions/{namespace}/{name}.execute:own")
        functions = FunctionService(unit, self.principal, self.context.settings.function)
        await functions.executable(namespace, name)

    async def _target(self, unit: Unit, connection_id: UUID) -> DatabaseTarget:
        connections = DatabaseConnectionService(unit, self.principal, self.context.cipher)
        row = await connections.by_id(connection_id)
        if row.connection_type != "postgresql":
            raise _refused(
                "database_connection_id",
                f"'{row.name}' is a {row.connection_type} database; triggers poll PostgreSQL only.",
            )
        return connections.target(row)

    async def _check_table(self, target: DatabaseTarget, values: dict[str, Any]) -> None:
        schema, name, operations = (
            values[key] for key in ("schema_name", "table_name", "operations")
        )
        with _explained(target):
            async with self.context.databases.database(target) as database:
                if values["mode"] == TriggerMode.REPLICATION:
                    await source.check_table(database, schema, name)
                    await publications.check(database, schema, name, operations)
                    return
                table = await source.find_table(database, schema, name, values["poll_column"])
                # Whether it may be read is only known by reading.
                await source.largest(database, table)
        _check_operations(operations, never_changes=table.never_changes)

    @asynccontextmanager
    async def _start(
        self, target: DatabaseTarget | None, values: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Columns of a trigger that begins now. What was made for it is dropped if the block fails."""
        if target is None or values["mode"] != TriggerMode.REPLICATION:
            yield {"replication_slot_id": None, "bookmark": None}
            return
        with _explained(target):
            slot = await slots.make(
                self.context,
                target,
                values["schema_name"],
                values["table_name"],
                values["operations"],
            )
        try:
            yield {"replication_slot_id": slot.id, "bookmark": slot.bookmark}
        finally:
            await slots.settle(self.context, slot.id)

    @asynccontextmanager
    async def _restart(
        self, target: DatabaseTarget | None, values: dict[str, Any], changed: set[str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Columns that change with how the table is watched; none where it goes on as before."""
        polls = values["mode"] == TriggerMode.POLL
        if "mode" in changed or (polls and "poll_column" in changed):
            async with self._start(target, values) as start:
                yield start
            return
        slot_id = values["replication_slot_id"]
        if not polls and "operations" in changed and target is not None and slot_id is not None:
            with _explained(target):
                async with self.context.databases.database(target) as database:
                    await publications.publish(
                        database, slots.slot_name(slot_id), values["operations"]
                    )
        yield {}


def _columns(row: DatabaseTrigger) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


def _check_unchanged(row: DatabaseTrigger, before: dict[str, Any]) -> None:
    """Where it begins was made for how it was then."""
    if row.generation != before["generation"]:
        raise ConflictError("The trigger was changed by somebody else meanwhile; try again.")


def _check_mode(values: dict[str, Any]) -> None:
    if values["mode"] != TriggerMode.POLL:
        return
    if values["poll_column"] is None:
        raise _invalid("poll_column", NEEDS_COLUMN)
    if Operation.DELETE in values["operations"]:
        raise _invalid("operations", SEES_NO_DELETES)


def _check_operations(operations: Sequence[str], *, never_changes: bool) -> None:
    if operations != _BOTH and not (operations == [Operation.INSERT] and never_changes):
        raise _refused(
            "operations",
            "Polling cannot tell inserted rows from updated ones by this column: name both "
            "INSERT and UPDATE, or for INSERT alone poll by an identity column, a sequence "
            "or a column of the primary key.",
        )


@contextmanager
def _explained(target: DatabaseTarget) -> Iterator[None]:
    """What the database answers is about the connection that the caller named."""
    try:
        yield
    except UnreachableError as error:
        log.warning("database_triggers.unreachable", error=error.message)
        raise _refused("database_connection_id", source.unreachable(target)) from error
    except DatabaseError as error:
        raise _refused("database_connection_id", error.message) from error


def _start_anew(row: DatabaseTrigger) -> None:
    """Void a look that has begun, and look at once."""
    row.generation += 1
    row.batches = 0
    row.failures = 0
    row.error_message = None
    row.next_poll_at = func.clock_timestamp()


async def _flush(unit: Unit, row: DatabaseTrigger) -> None:
    name = row.name  # which cannot be asked for after a failure
    try:
        # Before the commit: a name that is taken is the caller's mistake.
        await unit.session.flush()
        await unit.session.refresh(row)
    except IntegrityError as error:
        raise duplicate(error, f"Database trigger '{name}'") from error


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}.", [FieldError(field, message)])


def _refused(field: str, message: str) -> BadRequestError:
    return BadRequestError(message, [FieldError(field, message)])
