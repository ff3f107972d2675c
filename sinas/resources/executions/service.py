"""Rules of executions: how one is accepted, and who may see it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.errors import FieldError, InvalidInputError, NotFoundError, PayloadTooLargeError
from sinas.kit.ids import uuid7
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import Schema, Violation, compile_schema
from sinas.kit.time import utcnow
from sinas.models import CallbackStatus, Execution, ExecutionStatus, Function, TriggerType
from sinas.resources.executions.jobs import execute
from sinas.resources.executions.repository import ExecutionRepository
from sinas.settings import FunctionSettings

# Above this, validating in a thread costs less than the pause it would be for everybody else.
_INLINE_BYTES = 32_768


class RejectedInputError(InvalidInputError):
    """The input breaks the function's schema. The attempt is on record as `execution_id`."""

    def __init__(self, execution_id: UUID, errors: Sequence[FieldError]) -> None:
        super().__init__(rejection(errors), errors)
        self.execution_id = execution_id


def rejection(errors: Sequence[FieldError]) -> str:
    """The sentence for input that breaks its schema; also stored as the execution's error."""
    return f"Schema validation failed: {errors[0].message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What causes an execution.

    Attributes:
        id: Names the cause for people: `runtime-api`, a webhook's id, a chat's id.
        idempotency_key: A second start with the same key finds the first one's execution.
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
    background: bool = False
    delay: timedelta = timedelta(0)
    callback_url: str | None = None
    batch_id: UUID | None = None
    data: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of a start.

    Attributes:
        timeout_seconds: Limit of the call itself, without its time in the queue.
        is_new: False when the trigger's idempotency key had an execution already.
        errors: Why the input was rejected; empty when the execution is queued (or known).
    """

    execution_id: UUID
    timeout_seconds: int
    is_new: bool = True
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions to list; None does not narrow.

    `function` is a bare name or `namespace/name`.
    """

    function: str | None = None
    status: ExecutionStatus | None = None
    chat_id: UUID | None = None
    trigger_type: TriggerType | None = None


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
        that breaks the schema is recorded as a failed execution; the caller of this method
        commits that and then tells whoever asked (`Started.errors`).

        Raises:
            PayloadTooLargeError: The input is larger than `limits.max_input_bytes`; nothing is
                recorded.
            InvalidInputError: The input holds what cannot be stored; nothing is recorded.
        """
        key = execution_id or uuid7()
        values, errors = await self._prepared(function, given, trigger, limits, key)
        if not await self.rows.insert(values):
            known = await self.rows.by_idempotency_key(str(trigger.idempotency_key))
            return Started(
                execution_id=known.id, timeout_seconds=known.timeout_seconds, is_new=False
            )
        return self._queued(values, errors, trigger)

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
            self._queued(values, errors, trigger)
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
        size = _size(given, limits)
        schema = compile_schema(function.input_schema)
        coerced = schema.coerce(given)
        if coerced != given:
            _size(coerced, limits)
        errors = tuple(map(_field_error, await _violations(schema, coerced, size)))
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
            "idempotency_key": trigger.idempotency_key,
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

    def _queued(
        self, values: dict[str, Any], errors: tuple[FieldError, ...], trigger: Trigger
    ) -> Started:
        key: UUID = values["id"]
        if not errors:
            execute.enqueue(self.unit, str(key), trigger.delay, str(key))
        return Started(execution_id=key, timeout_seconds=values["timeout_seconds"], errors=errors)

    async def get(self, execution_id: UUID) -> Execution:
        """One execution.

        Raises:
            NotFoundError: Absent, or somebody else's.
        """
        row = await self.rows.by_id(execution_id)
        if row is None:
            raise NotFoundError(f"Execution '{execution_id}' not found")
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
        ):
            if value is not None:
                statement = statement.where(column == value)
        return await self.rows.page(statement, skip=skip, limit=limit)

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


def _size(given: JsonObject, limits: FunctionSettings) -> int:
    try:
        size = len(encode(given))
    except NotJsonError as error:
        message = f"The input {error}."
        raise InvalidInputError(message, [FieldError("input", message)]) from None
    if size > limits.max_input_bytes:
        raise PayloadTooLargeError(
            f"The input has {size} bytes as JSON; the limit is {limits.max_input_bytes} "
            "(FUNCTION_MAX_INPUT_BYTES)."
        )
    return size


async def _violations(schema: Schema, value: JsonObject, size: int) -> tuple[Violation, ...]:
    if size > _INLINE_BYTES or schema.is_costly:
        return await asyncio.to_thread(schema.violations, value)
    return schema.violations(value)


def _field_error(violation: Violation) -> FieldError:
    return FieldError(".".join(("input", *map(str, violation.path))), violation.message)
