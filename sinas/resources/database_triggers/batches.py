"""Batches of a look: what is new is started, and the bookmark moved, in one transaction."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import ConflictError, LeaseLostError, PayloadTooLargeError, UnauthenticatedError
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import DatabaseTrigger, TriggerMode, TriggerType
from sinas.resources.database_triggers import repository
from sinas.resources.database_triggers.payload import payload
from sinas.resources.executions.service import Trigger, rejection
from sinas.resources.functions.service import FunctionService


class Batches:
    """The batches of one look of one trigger by one process.

    Attributes:
        rejected: What was wrong with input that the function's own schema refused.
    """

    def __init__(self, context: AppContext, trigger: DatabaseTrigger, process: UUID) -> None:
        self.context = context
        self.trigger = trigger
        self.process = process
        self.rejected: str | None = None
        self._started = trigger.batches

    async def start(
        self,
        rows: Sequence[Mapping[str, Any]],
        behind: Callable[[int], JsonObject],
        operations: Sequence[str] | None = None,
    ) -> int:
        """Start the function with as many of the rows as it takes; how many these were.

        Args:
            rows: At least one, by column name.
            behind: The bookmark after so many of them.
            operations: What happened to each row, where that is known.

        Raises:
            PayloadTooLargeError: One row alone is more than it takes.
            LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
        """
        count = len(rows)
        while True:
            told = None if operations is None else operations[:count]
            try:
                await self.move(behind(count), rows[:count], told)
            except PayloadTooLargeError:
                if count == 1:
                    raise
                count = (count + 1) // 2
                continue
            return count

    async def move(
        self,
        bookmark: JsonObject,
        rows: Sequence[Mapping[str, Any]] = (),
        operations: Sequence[str] | None = None,
    ) -> None:
        """Set the bookmark and start what it passes, in one transaction: both or neither.

        Raises:
            LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
        """
        async with self._held() as unit:
            if rows:
                await self._execute(unit, rows, operations)
                self._started += 1
            await repository.move(unit.session, self.trigger.id, bookmark, self._started)

    async def check(self) -> None:
        """See that the trigger still is as it was, and this process's.

        Raises:
            LeaseLostError: Another process looks now, or the trigger was changed meanwhile.
        """
        async with self._held():
            pass

    async def owner(self) -> Principal:
        """Whom the trigger runs as, with what they hold now.

        Raises:
            ConflictError: They were deactivated.
        """
        trigger = self.trigger
        try:
            return await self.context.authenticator.by_user(trigger.user_id, trigger.access)
        except UnauthenticatedError as error:
            raise ConflictError("The owner of this trigger was deactivated.") from error

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[Unit]:
        """A transaction that keeps out whoever would change the trigger, or take it over."""
        async with self.context.unit() as unit:
            if not await repository.hold(unit.session, self.trigger, self.process):
                raise LeaseLostError("Another process looks at this trigger, or it was changed.")
            yield unit

    async def _execute(
        self, unit: Unit, rows: Sequence[Mapping[str, Any]], operations: Sequence[str] | None
    ) -> None:
        trigger = self.trigger
        given = payload(
            table=f"{trigger.schema_name}.{trigger.table_name}",
            operation=trigger.operations[0] if len(trigger.operations) == 1 else "CHANGE",
            poll_column=trigger.poll_column if trigger.mode == TriggerMode.POLL else None,
            rows=rows,
            operations=operations,
            now=utcnow(),
        )
        functions = FunctionService(unit, await self.owner(), self.context.settings.function)
        started = await functions.start(
            trigger.function_namespace,
            trigger.function_name,
            given,
            Trigger(
                type=TriggerType.CDC,
                id=str(trigger.id),
                idempotency_key=f"cdc:{trigger.id}:{trigger.generation}:{self._started}",
                background=True,
            ),
        )
        if started.errors:
            # On record as a failed execution; later rows are not kept waiting by these.
            self.rejected = rejection(started.errors)
