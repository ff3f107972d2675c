"""Rules of executions: how one is accepted, and who may see it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
)
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.kit.time import utcnow
from sinas.models import (
    TERMINAL_EXECUTION,
    CallbackStatus,
    Execution,
    ExecutionKind,
    ExecutionStatus,
    Function,
    TriggerType,
)
from sinas.resources.executions.cancelling import cancel_trees
from sinas.resources.executions.code import stand_in
from sinas.resources.executions.inputs import checked
from sinas.resources.executions.jobs import push
from sinas.resources.executions.repository import ExecutionRepository, insert_one
from sinas.resources.executions.retrying import RetryPolicy
from sinas.settings import FunctionSettings, Settings

CANCELLED = "The call was cancelled."
STUCK = "The call was cancelled: it ran for longer than it may, and no worker ended it."
_STUCK_SECONDS = 60
# What a dead letter and its second start have in common. Not the batch, which has ended.
_KEPT = (
    "kind",
    "user_id",
    "access",
    "parent_execution_id",
    "function_id",
    "function_namespace",
    "function_name",
    "trigger_type",
    "trigger_id",
    "trigger_data",
    "chat_id",
    "tool_call_id",
    "background",
    "callback_url",
    "timeout_seconds",
    "depth",
    "input_data",
)


class RejectedInputError(InvalidInputError):
    """The input breaks the function's schema. The attempt is on record as `execution_id`."""

    def __init__(self, execution_id: UUID, errors: Sequence[FieldError]) -> None:
        super().__init__(rejection(errors), errors)
        self.execution_id = execution_id


class TooDeepError(BadRequestError):
    """The chain of functions that call each other is longer than MAX_EXECUTION_DEPTH."""

    code = "depth_exceeded"


def rejection(errors: Sequence[FieldError]) -> str:
    """The sentence for input that breaks its schema; also stored as the execution's error."""
    return f"Schema validation failed: {errors[0].message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What causes an execution.

    Attributes:
        id: Names the cause for people: `runtime-api`, a webhook's id, a chat's id.
        idempotency_key: A second start with the same key finds the first one's execution.
        client_key: As `idempotency_key`, chosen by the caller: it counts for their calls of one
            function, and only with one input.
        background: Whether nobody waits for the end: a final failure is then a dead letter.
        delay: How long after now it may start at the earliest.
        callback_url: Told when it ends; checked by whoever accepts it.
        batch_id: The batch it is part of.
        data: What the code finds in its context besides, by key.
    """

    type: TriggerType
    id: str
    chat_id: UUID | None = None
    tool_call_id: str | None = None
    idempotency_key: str | None = None
    client_key: str | None = None
    background: bool = False
    delay: timedelta = timedelta(0)
    callback_url: str | None = None
    batch_id: UUID | None = None
    data: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of a start.

    Attributes:
        timeout_seconds: Limit of one attempt, without its time in the queue.
        is_idempotent: Whether a failed attempt may be followed by another one.
        retry: What the function says of that.
        is_new: False when the trigger's idempotency key had an execution already.
        errors: Why the input was rejected; empty when the execution is queued (or known).
    """

    execution_id: UUID
    timeout_seconds: int
    is_idempotent: bool
    retry: JsonObject | None
    is_new: bool = True
    errors: tuple[FieldError, ...] = ()

    def patience_seconds(self, settings: Settings) -> float:
        """How long to wait for its end: all attempts and pauses, and FUNCTION_TIMEOUT in queues."""
        policy = RetryPolicy.of(self.retry, settings.queue)
        attempts = policy.max_attempts if self.is_idempotent else 1
        pauses = sum(policy.delay_after(n).total_seconds() for n in range(1, attempts))
        return self.timeout_seconds * attempts + pauses + settings.function.timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions to list; None does not narrow.

    `function` is a bare name or `namespace/name`.
    """

    function: str | None = None
    status: ExecutionStatus | None = None
    chat_id: UUID | None = None
    trigger_type: TriggerType | None = None
    parent_execution_id: UUID | None = None
    batch_id: UUID | None = None


class ExecutionService:
    """Executions of one caller, in one transaction."""

    def __init__(self, unit: Unit, principal: Principal) -> None:
        self.unit = unit
        self.principal = principal
        self.rows = ExecutionRepository(unit.session, principal)

    async def start(
        self,
        function: Function,
        given: JsonObject,
        trigger: Trigger,
        limits: FunctionSettings,
        execution_id: UUID | None = None,
    ) -> Started:
        """Record an execution of `function` as the caller, and queue it after the commit.

        Whether the caller may execute the function is for the calling slice to check. Input
        that breaks the schema is recorded as a failed execution, which holds no key; the caller
        of this method commits that and then tells whoever asked (`Started.errors`).

        Raises:
            PayloadTooLargeError: The input is larger than `limits.max_input_bytes`; nothing is
                recorded.
            InvalidInputError: The input holds what cannot be stored, or is not the one the
                trigger's `client_key` was used with; nothing is recorded.
            TooDeepError: The caller is the code of an execution at the end of the longest chain
                that is allowed; nothing is recorded.
        """
        key = execution_id or uuid7()
        values, errors = await self._prepared(function, given, trigger, limits, key)
        if not await insert_one(self.unit, values):
            return await self._known(values, trigger, function)
        return self._queued(values, errors, trigger, function, limits)

    async def start_code(
        self,
        name: tuple[str, str],
        given: JsonObject,
        trigger: Trigger,
        limits: FunctionSettings,
        execution_id: UUID | None = None,
    ) -> Started:
        """As `start`, for the code in `given["code"]`, which is shown as a function of that name.

        Raises as `start` does. Whether the caller may run code is for the calling slice to check.
        """
        function = stand_in(name, limits)
        key = execution_id or uuid7()
        values, errors = await self._prepared(function, given, trigger, limits, key)
        if not await insert_one(self.unit, values | {"kind": ExecutionKind.CODE}):
            return await self._known(values, trigger, function)
        return self._queued(values, errors, trigger, function, limits)

    async def _known(self, values: dict[str, Any], trigger: Trigger, function: Function) -> Started:
        """The execution that holds the trigger's key already."""
        known = await self.rows.by_idempotency_key(values["idempotency_key"])
        if trigger.client_key is not None and known.input_data != values["input_data"]:
            message = (
                f"The key '{trigger.client_key}' was used for a call with another input; use a "
                "new key for a new call."
            )
            raise InvalidInputError(message, [FieldError("input", message)])
        return Started(
            execution_id=known.id,
            timeout_seconds=known.timeout_seconds,
            is_idempotent=function.idempotent,
            retry=function.retry,
            is_new=False,
        )

    async def start_many(
        self,
        function: Function,
        calls: Sequence[tuple[JsonObject, Trigger]],
        limits: FunctionSettings,
    ) -> Sequence[Started]:
        """As `start` for each input and trigger, in one statement for all; in their order.

        Their triggers have no idempotency keys.

        Raises:
            PayloadTooLargeError: An input is too large; nothing is recorded.
            InvalidInputError: An input holds what cannot be stored; nothing is recorded.
        """
        # Sorted, so that the order of the ids is that of the calls.
        keys = sorted(uuid7() for _ in calls)
        prepared = []
        for key, (given, trigger) in zip(keys, calls, strict=True):
            prepared.append(await self._prepared(function, given, trigger, limits, key))
            # Others wait on this loop, and there may be a thousand.
            await asyncio.sleep(0)
        await self.rows.insert_many([values for values, _ in prepared])
        return [
            self._queued(values, errors, trigger, function, limits)
            for (values, errors), (_, trigger) in zip(prepared, calls, strict=True)
        ]

    async def _prepared(
        self,
        function: Function,
        given: JsonObject,
        trigger: Trigger,
        limits: FunctionSettings,
        key: UUID,
    ) -> tuple[dict[str, Any], tuple[FieldError, ...]]:
        """The row of a new execution, and why its input was rejected."""
        depth = self.principal.depth + 1
        if limits.max_depth and depth > limits.max_depth:
            raise TooDeepError(
                f"Functions call each other in a chain of more than {limits.max_depth} calls; "
                "the limit is MAX_EXECUTION_DEPTH."
            )
        coerced, errors = await checked(given, function.input_schema, limits.max_input_bytes)
        timeout = min(function.timeout or limits.timeout, limits.max_timeout)
        values: dict[str, Any] = {
            "id": key,
            "user_id": self.principal.user_id,
            "access": self.principal.limit_map,
            "parent_execution_id": self.principal.execution_id,
            "function_id": function.id,
            "function_namespace": function.namespace,
            "function_name": function.name,
            "trigger_type": trigger.type,
            "trigger_id": trigger.id,
            "trigger_data": trigger.data,
            "chat_id": trigger.chat_id,
            "tool_call_id": trigger.tool_call_id,
            # A rejected call does not take the key: the same call with better input may come.
            "idempotency_key": None if errors else self._key(function, trigger),
            "depth": depth,
            "background": trigger.background,
            "batch_id": trigger.batch_id,
            "callback_url": trigger.callback_url,
            "callback_status": CallbackStatus.PENDING if trigger.callback_url else None,
            "delay": trigger.delay,
            "timeout_seconds": timeout,
            "status": ExecutionStatus.FAILED if errors else ExecutionStatus.PENDING,
            "input_data": given if errors else coerced,
        }
        if errors:
            values |= {"error": rejection(errors), "completed_at": utcnow(), "duration_ms": 0}
        return values, errors

    def _key(self, function: Function, trigger: Trigger) -> str | None:
        if trigger.client_key is None:
            return trigger.idempotency_key
        return f"{self.principal.user_id}:{function.id}:{trigger.client_key}"

    def _queued(
        self,
        values: dict[str, Any],
        errors: tuple[FieldError, ...],
        trigger: Trigger,
        function: Function,
        limits: FunctionSettings,
    ) -> Started:
        key: UUID = values["id"]
        if not errors:
            push(
                self.unit,
                limits,
                key,
                depth=values["depth"],
                shared=function.shared_pool,
                delay=trigger.delay,
            )
        return Started(
            execution_id=key,
            timeout_seconds=values["timeout_seconds"],
            is_idempotent=function.idempotent,
            retry=function.retry,
            errors=errors,
        )

    async def get(self, execution_id: UUID) -> Execution:
        """One execution.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        row = await self.rows.by_id(execution_id)
        if row is None:
            raise _missing(execution_id)
        return row

    async def page(self, wanted: ExecutionFilter, *, skip: int, limit: int) -> Sequence[Execution]:
        """Executions the caller may see, newest start first."""
        statement = self.rows.visible().order_by(Execution.started_at.desc(), Execution.id.desc())
        if wanted.function is not None:
            namespace, slash, name = wanted.function.rpartition("/")
            statement = statement.where(Execution.function_name == name)
            if slash:
                statement = statement.where(Execution.function_namespace == namespace)
        for column, value in (
            (Execution.status, wanted.status),
            (Execution.chat_id, wanted.chat_id),
            (Execution.trigger_type, wanted.trigger_type),
            (Execution.parent_execution_id, wanted.parent_execution_id),
            (Execution.batch_id, wanted.batch_id),
        ):
            if value is not None:
                statement = statement.where(column == value)
        return await self.rows.page(statement, skip=skip, limit=limit)

    async def of_batch(
        self, batch_id: UUID, *, status: ExecutionStatus | None, skip: int, limit: int
    ) -> Sequence[Execution]:
        """Executions of a batch that the caller may see, in the order of its inputs."""
        statement = self.rows.visible().where(Execution.batch_id == batch_id)
        if status is not None:
            statement = statement.where(Execution.status == status)
        return await self.rows.page(statement.order_by(Execution.id), skip=skip, limit=limit)

    async def cancel(self, execution_id: UUID, reason: str = CANCELLED) -> Execution:
        """End an execution and all that it started; its code is killed after the commit.

        Raises:
            NotFoundError: Absent, or not the caller's to change.
            ConflictError: It has ended.
        """
        row = await self.rows.by_id(execution_id, "update")
        if row is None:
            raise _missing(execution_id)
        return await self._cancelled(row, reason)

    async def cancel_any(self, execution_id: UUID, reason: str = CANCELLED) -> Execution:
        """As `cancel`, whoever's it is: the calling slice checks that the caller may."""
        row = await self.unit.session.get(Execution, execution_id)
        if row is None:
            raise _missing(execution_id)
        return await self._cancelled(row, reason)

    async def _cancelled(self, row: Execution, reason: str) -> Execution:
        ended = await cancel_trees(self.unit, Execution.id == row.id, reason)
        await self.unit.session.refresh(row)
        if row.id not in ended:
            raise ConflictError(f"Execution '{row.id}' has ended; it is {row.status}.")
        return row

    async def cancel_batch(self, batch_id: UUID, reason: str = CANCELLED) -> Sequence[UUID]:
        """Cancel what has not ended of a batch, with all it started; which of the batch.

        The calling slice checks that the caller may.
        """
        live = select(Execution.id).where(
            Execution.batch_id == batch_id, Execution.status.not_in(TERMINAL_EXECUTION)
        )
        own = set((await self.unit.session.scalars(live)).all())
        ended = await cancel_trees(self.unit, Execution.id.in_(own), reason)
        return sorted(own.intersection(ended))

    async def cancel_stuck(self, older_than: timedelta) -> int:
        """Cancel what has run for longer than that and should have been killed; how many.

        Whoever's they are: the calling slice checks that the caller may.
        """
        now = func.clock_timestamp()
        limit = func.make_interval(0, 0, 0, 0, 0, 0, Execution.timeout_seconds + _STUCK_SECONDS)
        stuck = (
            Execution.status == ExecutionStatus.RUNNING,
            Execution.started_at < now - older_than,
            Execution.started_at < now - limit,
        )
        return len(await cancel_trees(self.unit, and_(*stuck), STUCK))

    async def dead_letters(self, *, skip: int, limit: int) -> Sequence[Execution]:
        """Background calls that failed for good, newest first, whoever's they are.

        The calling slice checks that the caller may.
        """
        return await self.rows.dead_letters(skip=skip, limit=limit)

    async def count_dead_letters(self) -> int:
        """How many `dead_letters` there are."""
        return await self.rows.count_dead_letters()

    async def flush_dead_letters(self) -> int:
        """Empty the list; the executions stay. How many were in it."""
        return len(await self.rows.take_dead_letters())

    async def retry_dead_letter(self, execution_id: UUID, limits: FunctionSettings) -> UUID:
        """Start the same call anew, as its owner, and take the old one out of the list.

        Answers the new execution's id.

        Raises:
            NotFoundError: Not in the list.
            ConflictError: Its function was deleted.
        """
        found = await self.rows.take_dead_letters(execution_id)
        if not found:
            raise NotFoundError(f"Execution '{execution_id}' is not in the dead-letter list")
        old = found[0]
        function = await self.unit.session.get(Function, old.function_id or execution_id)
        if function is None and old.kind is ExecutionKind.FUNCTION:
            raise ConflictError(
                f"Execution '{execution_id}' cannot be run again: function "
                f"'{old.function_namespace}/{old.function_name}' was deleted."
            )
        key = uuid7()
        kept = {name: getattr(old, name) for name in _KEPT}
        callback = CallbackStatus.PENDING if old.callback_url else None
        await insert_one(
            self.unit,
            {**kept, "id": key, "status": ExecutionStatus.PENDING, "callback_status": callback},
        )
        shared = function is not None and function.shared_pool
        push(self.unit, limits, key, depth=old.depth, shared=shared)
        return key

    async def steps(self, execution_id: UUID) -> Sequence[Execution]:
        """The executions that the code of this one started, in the order they began.

        Raises:
            NotFoundError: The execution is absent, or somebody else's.
        """
        await self.get(execution_id)
        statement = (
            self.rows.visible()
            .where(Execution.parent_execution_id == execution_id)
            .order_by(Execution.started_at, Execution.id)
        )
        return (await self.unit.session.scalars(statement)).all()


def _missing(execution_id: UUID) -> NotFoundError:
    return NotFoundError(f"Execution '{execution_id}' not found")
