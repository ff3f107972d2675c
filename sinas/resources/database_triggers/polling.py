"""One look of one trigger: what is new is started, and the bookmark moved, in one transaction.

What a function gets is fenced: a value counts once no transaction is open that may still commit
a smaller one. Transactions that hold a lock for writing on the table are waited for however long
they take; those that only may come to it, for `_PATIENCE_SECONDS`.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.databases.base import Database, UnreachableError
from sinas.db.unit import Unit
from sinas.errors import (
    ConflictError,
    LeaseLostError,
    PayloadTooLargeError,
    SinasError,
    UnauthenticatedError,
    UpstreamError,
)
from sinas.kit.time import utcnow
from sinas.models import DatabaseTrigger, TriggerType
from sinas.resources.database_connections.service import DatabaseConnectionService
from sinas.resources.database_triggers import repository, source
from sinas.resources.database_triggers.payload import payload
from sinas.resources.database_triggers.position import MOST_KEYS, Bookmark, Pending, backoff
from sinas.resources.database_triggers.source import Row, Table
from sinas.resources.executions.service import Trigger, rejection
from sinas.resources.functions.service import FunctionService

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 60.0
_TOLD_AFTER_SECONDS = 10.0
# Most transactions are short: it is asked again so often, before the next look is set.
_ASK_AGAIN_SECONDS = 0.05
_ASKED_AGAIN = 10
_LOOK_AGAIN = timedelta(seconds=1)
_WAITING = (
    "Waiting for {count} open transaction(s) on this table that may still commit smaller values "
    "of the poll column; nothing is lost. Pids are in pg_locks."
)
_UNKNOWN = "The platform could not look at the table; its log says why."


async def look(context: AppContext, trigger: DatabaseTrigger, process: UUID) -> None:
    """Poll once, as far as there is anything, and say when to look again. Never raises.

    `trigger` is as it was when `process` took its lease.
    """
    log_ = log.bind(trigger_id=str(trigger.id))
    try:
        waits_for = await _Look(context, trigger, process).run()
    except LeaseLostError:
        log_.info("database_triggers.lease_lost")
        # Where it was changed rather than taken over, the lease is still to be given back.
        await _done(context, trigger, process, timedelta(0), None)
    except SinasError as error:
        log_.warning("database_triggers.failed", error=error.message)
        await _fail(context, trigger, process, error.message)
    except Exception:
        log_.exception("database_triggers.failed")
        await _fail(context, trigger, process, _UNKNOWN)
    else:
        pause = timedelta(seconds=trigger.poll_interval_seconds)
        if waits_for is not None:
            pause = min(pause, _LOOK_AGAIN)
        await _done(context, trigger, process, pause, waits_for or None)


async def _fail(context: AppContext, trigger: DatabaseTrigger, process: UUID, message: str) -> None:
    failures = trigger.failures + 1
    try:
        async with context.unit() as unit:
            await repository.release(
                unit.session,
                trigger,
                process,
                backoff(failures),
                error_message=message,
                failures=failures,
            )
    except Exception:
        # Our own database is away: the lease runs out, and whoever lives then looks again.
        log.warning("database_triggers.not_noted", trigger_id=str(trigger.id), exc_info=True)


async def _done(
    context: AppContext,
    trigger: DatabaseTrigger,
    process: UUID,
    pause: timedelta,
    message: str | None,
) -> None:
    try:
        async with context.unit() as unit:
            await repository.release(
                unit.session, trigger, process, pause, error_message=message, failures=0
            )
    except Exception:
        log.warning("database_triggers.not_noted", trigger_id=str(trigger.id), exc_info=True)


class _Look:
    """One look."""

    def __init__(self, context: AppContext, trigger: DatabaseTrigger, process: UUID) -> None:
        self.context = context
        self.trigger = trigger
        self.process = process
        self.batches = trigger.batches
        self.rejected: str | None = None

    async def run(self) -> str | None:
        """None when all that there was is started; else why something waits, '' for not yet long.

        Raises:
            SinasError: The database, the function or the owner's rights are in the way.
            LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
        """
        trigger, context = self.trigger, self.context
        async with context.statement_unit() as unit:
            owner = await _owner(context, trigger)
            connections = DatabaseConnectionService(unit, owner, context.cipher)
            row = await connections.by_id(trigger.database_connection_id)
            target = connections.target(row)
        try:
            # No transaction of ours is open while the user's database is asked.
            async with context.databases.database(target) as database:
                waits = await self._ask(database)
        except UnreachableError as error:
            log.warning("database_triggers.unreachable", error=error.message)
            raise UpstreamError(source.unreachable(target)) from error
        if self.rejected is not None:
            raise ConflictError(self.rejected)
        return waits

    async def _ask(self, database: Database) -> str | None:
        trigger = self.trigger
        table = await source.find_table(
            database, trigger.schema_name, trigger.table_name, trigger.poll_column
        )
        if trigger.bookmark is None:
            await self._move(await _first(database, table))
            return None
        return await self._forward(database, table, Bookmark.load(trigger.bookmark))

    async def _forward(self, database: Database, table: Table, bookmark: Bookmark) -> str | None:
        pending = bookmark.pending
        if pending is None:
            value = await source.largest(database, table)
            if value is None:
                return None
            open_ = await source.open_transactions(database, table)
            pending = Pending(value=value, holders=tuple(sorted(open_.all)), since=open_.now)
        pending, age = await self._settled(database, table, pending)
        if pending.holders:
            if pending != bookmark.pending:
                await self._move(bookmark.waiting(pending))
            long = age > _TOLD_AFTER_SECONDS
            return _WAITING.format(count=len(pending.holders)) if long else ""
        bookmark = bookmark.waiting(pending)
        size = self.trigger.batch_size
        while rows := await source.new_rows(database, table, bookmark, pending.value, size):
            bookmark, started = await self._start(table, bookmark, rows)
            if started == len(rows) < size:
                break
        if bookmark.pending is not None and self.trigger.bookmark is not None:
            cleared = bookmark.waiting(None)
            if cleared.dump() != self.trigger.bookmark:
                await self._move(cleared)
        return None

    async def _settled(
        self, database: Database, table: Table, pending: Pending
    ) -> tuple[Pending, float]:
        """Without the holders that have ended, and how long it has waited."""
        age = 0.0
        for number in range(_ASKED_AGAIN):
            if not pending.holders:
                break
            if number:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            open_ = await source.open_transactions(database, table)
            age = open_.now - pending.since
            still = open_.writers if age > _PATIENCE_SECONDS else open_.all
            left = tuple(each for each in pending.holders if each in still)
            pending = Pending(value=pending.value, holders=left, since=pending.since)
        return pending, age

    async def _start(
        self, table: Table, bookmark: Bookmark, rows: Sequence[Row]
    ) -> tuple[Bookmark, int]:
        """Start the function with as many of the rows as it takes; where that leaves us."""
        count = len(rows)
        while True:
            moved = bookmark.after([(row.value, row.key) for row in rows[:count]])
            try:
                await self._move(moved, table, rows[:count])
            except PayloadTooLargeError:
                if count == 1:
                    raise
                count = (count + 1) // 2
                continue
            return moved, count

    async def _move(
        self, bookmark: Bookmark, table: Table | None = None, rows: Sequence[Row] = ()
    ) -> None:
        """Set the bookmark and start what it passes, in one transaction: both or neither."""
        async with self.context.unit() as unit:
            # Also keeps whoever would change the trigger, or take it over, out until the commit.
            if not await repository.hold(unit.session, self.trigger, self.process):
                raise LeaseLostError("Another process looks at this trigger, or it was changed.")
            if table is not None:
                await self._execute(unit, table, rows)
                self.batches += 1
            await repository.move(unit.session, self.trigger.id, bookmark.dump(), self.batches)

    async def _execute(self, unit: Unit, table: Table, rows: Sequence[Row]) -> None:
        trigger, context = self.trigger, self.context
        given = payload(
            table=f"{trigger.schema_name}.{trigger.table_name}",
            operation="INSERT" if trigger.operations == ["INSERT"] else "CHANGE",
            poll_column=trigger.poll_column,
            rows=[row.columns for row in rows],
            types=table.types,
            now=utcnow(),
        )
        functions = FunctionService(unit, await _owner(context, trigger), context.settings.function)
        started = await functions.start(
            trigger.function_namespace,
            trigger.function_name,
            given,
            Trigger(
                type=TriggerType.CDC,
                id=str(trigger.id),
                idempotency_key=f"cdc:{trigger.id}:{trigger.generation}:{self.batches}",
                background=True,
            ),
        )
        if started.errors:
            # On record as a failed execution; later rows are not kept waiting by these.
            self.rejected = rejection(started.errors)


async def _first(database: Database, table: Table) -> Bookmark:
    """Behind everything that is in the table now."""
    value = await source.largest(database, table)
    if value is None:
        return Bookmark()
    keys = await source.keys_at(database, table, value)
    few = len(keys) <= MOST_KEYS
    return Bookmark(
        value=value, keys=tuple(keys) if few else None, last_key=keys[-1] if keys else None
    )


async def _owner(context: AppContext, trigger: DatabaseTrigger) -> Principal:
    try:
        return await context.authenticator.by_user(trigger.user_id, trigger.access)
    except UnauthenticatedError as error:
        raise ConflictError("The owner of this trigger was deactivated.") from error
