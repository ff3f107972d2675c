"""Pauses: what `input()` of a running function asks, and how it gets its answer.

The row is the truth. A worker sets it AWAITING_INPUT with the prompt, whoever answers writes
`answer` into it, and the worker takes that and sets it RUNNING again; each step is one statement
that does nothing where the row is in another state. Messages only save the waiting.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import EXECUTION_ANSWER_PREFIX, AppContext, WorkerContext
from sinas.errors import (
    BadRequestError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
)
from sinas.kit.json_text import NotJsonError, encode, storable
from sinas.kit.json_types import JsonObject
from sinas.models import Execution, ExecutionStatus
from sinas.queue.signals import Listener
from sinas.queue.worker import released_slot
from sinas.resources.executions.events import (
    ExecutionEnd,
    announce_pause,
    channel,
    wait_for_end,
)
from sinas.resources.executions.repository import ExecutionRepository
from sinas.sandbox.base import Answer, Ask

log = structlog.get_logger(__name__)

_MOST_OFFERED = 10
# An answer's message is missed only when Redis or the connection to it fails.
_LOOK_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_LONGER_SECONDS = 5.0

_executions: Any = Execution.__table__
_own = (_executions.c.id == bindparam("key"), _executions.c.lease_owner == bindparam("owner"))
_PAUSE: Any = (
    update(_executions)
    .where(*_own, _executions.c.status == ExecutionStatus.RUNNING)
    .values(status=ExecutionStatus.AWAITING_INPUT, prompt=bindparam("asked"), answer=None)
    .returning(_executions.c.id)
)
_paused = (
    select(_executions.c.id, _executions.c.answer)
    .where(
        *_own,
        _executions.c.status == ExecutionStatus.AWAITING_INPUT,
        or_(_executions.c.answer.is_not(None), bindparam("anyway")),
    )
    .with_for_update()
    .cte("paused")
)
_GO_ON: Any = (
    update(_executions)
    .where(_executions.c.id == _paused.c.id)
    .values(status=ExecutionStatus.RUNNING, prompt=None, answer=None)
    .returning(_paused.c.answer)
)
_STATUS = select(_executions.c.status).where(*_own)


def answers(worker: WorkerContext, execution_id: UUID, token: Callable[[], str]) -> Ask:
    """What the sandbox calls when the code of an execution asks.

    Args:
        worker: It runs the execution.
        execution_id: The execution.
        token: Makes the access token the code goes on with: the one it has may have expired.
    """

    async def ask(prompt: str) -> Answer:
        pause = _Pause(worker, execution_id)
        return Answer(value=await pause.ask(storable(prompt)), access_token=token())

    return ask


@dataclass(frozen=True, slots=True)
class _Pause:
    """One question of one execution."""

    worker: WorkerContext
    key: UUID

    async def ask(self, prompt: str) -> str:
        """Pause the execution until the answer is there.

        Raises:
            TimeoutError: It did not come within FUNCTION_INPUT_TIMEOUT.
            LeaseLostError: The execution is not this worker's any more.
        """
        app = self.worker.app
        async with app.signals.listen(f"{EXECUTION_ANSWER_PREFIX}{self.key}") as listener:
            if await self._first(_PAUSE, asked=prompt) is None:
                raise self._lost()
            await announce_pause(app.redis, self.key)
            # People take their time; other calls shall have this one's turn meanwhile.
            with released_slot():
                return await self._answer(listener)

    async def _answer(self, listener: Listener) -> str:
        seconds = self.worker.app.settings.function.input_timeout
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        async with asyncio.timeout(_LOOK_SECONDS):
                            await listener.get()
                    except TimeoutError:
                        await self._check_held()
                    if (row := await self._first(_GO_ON, anyway=False)) is not None:
                        return str(row.answer)
        except TimeoutError:
            row = await self._first(_GO_ON, anyway=True)
        if row is None:
            raise self._lost()
        if row.answer is not None:  # it came at the last moment
            return str(row.answer)
        raise TimeoutError(f"input() was not answered within {seconds} s (FUNCTION_INPUT_TIMEOUT)")

    async def _check_held(self) -> None:
        row = await self._first(_STATUS)
        if row is None or row.status is not ExecutionStatus.AWAITING_INPUT:
            raise self._lost()

    async def _first(self, statement: Any, **parameters: object) -> Any:
        """The statement's first row, however long the database is away."""
        values = {"key": self.key, "owner": self.worker.worker_id, **parameters}
        while True:
            try:
                async with self.worker.app.autocommit.connect() as connection:
                    return (await connection.execute(statement, values)).first()
            except (SQLAlchemyError, OSError) as error:
                log.warning(
                    "executions.pause_delayed",
                    execution_id=str(self.key),
                    error=type(error).__name__,
                )
                await asyncio.sleep(_RETRY_SECONDS)

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(f"Execution '{self.key}' ended while its code waited for input.")


@dataclass(frozen=True, slots=True)
class Continuations:
    """Answers of one caller to what paused executions ask."""

    context: AppContext
    principal: Principal

    async def answer(self, execution_id: UUID, given: JsonObject) -> ExecutionEnd | None:
        """Let a paused execution go on with `given`, and wait for its next pause or its end.

        None when neither came within the function's own time limit; it goes on then.

        Raises:
            NotFoundError: No such execution, or the caller may not see it.
            ForbiddenError: The caller may see it but not continue it.
            BadRequestError: It does not wait for input.
            InvalidInputError: The answer cannot be stored.
        """
        text = plain_value(given)
        # Listening begins before the commit, so that no end can be missed.
        async with self.context.signals.listen(channel(execution_id)) as listener:
            async with self.context.unit() as unit:
                row = await self._changeable(unit.session, execution_id)
                timeout = row.timeout_seconds
                if not await _store(unit.session, execution_id, text):
                    raise BadRequestError(
                        f"Execution '{execution_id}' does not wait for input; it is {row.status}."
                        if row.status is not ExecutionStatus.AWAITING_INPUT
                        else f"Execution '{execution_id}' has been answered already."
                    )
                unit.publish(f"{EXECUTION_ANSWER_PREFIX}{execution_id}", b"1")
            # A little longer, so that the end by the limit itself is still told.
            return await wait_for_end(
                self.context, listener, execution_id, timeout + _LONGER_SECONDS
            )

    async def _changeable(self, session: AsyncSession, execution_id: UUID) -> Execution:
        rows = ExecutionRepository(session, self.principal)
        if (row := await rows.by_id(execution_id, "update")) is not None:
            return row
        if await rows.by_id(execution_id) is None:
            raise NotFoundError(f"Execution '{execution_id}' not found")
        raise ForbiddenError(
            f"Not authorized to continue execution '{execution_id}': "
            "this needs 'sinas.executions.update:all'."
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """An execution that waits for input."""

    id: UUID
    function_namespace: str
    function_name: str
    prompt: str


async def waiting_in_chat(session: AsyncSession, chat_id: UUID, user_id: UUID) -> Sequence[Waiting]:
    """The user's executions of a chat that wait for input, oldest first, ten at most."""
    table = _executions.c
    statement = (
        select(table.id, table.function_namespace, table.function_name, table.prompt)
        .where(
            table.chat_id == chat_id,
            table.user_id == user_id,
            table.status == ExecutionStatus.AWAITING_INPUT,
            table.answer.is_(None),
        )
        .order_by(table.started_at, table.id)
        .limit(_MOST_OFFERED)
    )
    return [Waiting(*row) for row in await session.execute(statement)]


async def _store(session: AsyncSession, execution_id: UUID, text: str) -> bool:
    statement = (
        update(_executions)
        .where(
            _executions.c.id == execution_id,
            _executions.c.status == ExecutionStatus.AWAITING_INPUT,
            _executions.c.answer.is_(None),
        )
        .values(answer=text)
        .returning(_executions.c.id)
    )
    return (await session.execute(statement)).first() is not None


def plain_value(given: JsonObject) -> str:
    """What `input()` returns for the `input` object of an answer.

    That is its `value`, else its only value, else all of it; strings as they are, anything else
    as JSON text.

    Raises:
        InvalidInputError: It holds what cannot be stored.
    """
    if "value" in given:
        value = given["value"]
    else:
        value = next(iter(given.values())) if len(given) == 1 else given
    try:
        text = encode(value)
    except NotJsonError as error:
        message = f"The input {error}."
        raise InvalidInputError(message, [FieldError("input", message)]) from None
    return value if isinstance(value, str) else text.decode()
