"""How an execution's end is announced, and how to wait for it.

The channel and the message's fields are the contract's: `sinas:job:done:{execution_id}`,
`{"status": "completed" | "failed" | "cancelled", "result" | "error": ...}`. A large result is
not in the message; `in_row` says to read the row. That an execution waits for input is told on
the same channel, and is no end.
"""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import bindparam, select
from sqlalchemy.exc import SQLAlchemyError

from sinas.context import JOB_DONE_PREFIX, AppContext
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import TERMINAL_EXECUTION, Execution, ExecutionStatus
from sinas.queue.signals import RESYNC, Listener
from sinas.tools.base import Failed, Ok, ToolResult

log = structlog.get_logger(__name__)

TIMEOUT_ERROR: Final = "Execution timeout after "
FAILED: Final = "Function execution failed"
TIMED_OUT: Final = "Function execution timed out"
_MAX_MESSAGE_BYTES = 512 * 1024
# A message is missed only when Redis or the connection to it fails; then the row tells.
_LOOK_SECONDS = 5.0

_END = select(
    Execution.status, Execution.output_data, Execution.error, Execution.prompt, Execution.answer
).where(Execution.id == bindparam("key"))
# A pause may be over when its message arrives, so that only says to look.
_PAUSED = b'{"status":"awaiting_input","in_row":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnd:
    """How an execution ended, or that it waits for input.

    Attributes:
        status: Terminal, or AWAITING_INPUT.
        result: The return value when it completed; when it waits, an object that says so.
        error: Why it did not complete.
        prompt: What it asks when it waits.
    """

    execution_id: UUID
    status: ExecutionStatus
    result: JsonValue = None
    error: str | None = None
    prompt: str | None = None

    @property
    def has_result(self) -> bool:
        """Whether `result` is what the caller gets: it completed, or waits for input."""
        return self.status in {ExecutionStatus.COMPLETED, ExecutionStatus.AWAITING_INPUT}

    @property
    def timed_out(self) -> bool:
        """Whether it was killed at its time limit."""
        return self.error is not None and self.error.startswith(TIMEOUT_ERROR)


def tool_result(end: ExecutionEnd | None) -> ToolResult:
    """What a model is told of it; None is an end that did not come in time."""
    if end is None:
        return Failed(TIMED_OUT, "The function did not end in time; it may still be running.")
    if end.has_result:
        return Ok(end.result)
    message = end.error or "The function was cancelled."
    return Failed(TIMED_OUT if end.timed_out else FAILED, message)


def channel(execution_id: UUID) -> str:
    """Where the end of an execution is published."""
    return f"{JOB_DONE_PREFIX}{execution_id}"


def end_message(status: ExecutionStatus, result: bytes, error: str | None) -> bytes:
    """What is published on `channel` when an execution ended; see `announce`."""
    if len(result) > _MAX_MESSAGE_BYTES:
        body = b'"in_row":true'
    elif status is ExecutionStatus.COMPLETED:
        body = b'"result":' + result
    else:
        body = b'"error":' + orjson.dumps(error)
    return b'{"status":"' + status.lower().encode() + b'",' + body + b"}"


async def announce(
    redis: Redis, execution_id: UUID, status: ExecutionStatus, result: bytes, error: str | None
) -> None:
    """Tell whoever waits; call it after the row is committed.

    A failure is logged only: the row is the truth, and waiting callers look at it too.

    Args:
        redis: Where to publish.
        execution_id: The execution that ended.
        status: A terminal status.
        result: JSON text of the result; counts when the status is COMPLETED.
        error: One sentence; counts otherwise.
    """
    await _publish(redis, execution_id, end_message(status, result, error))


async def announce_pause(redis: Redis, execution_id: UUID) -> None:
    """Tell whoever waits that the execution waits for input; otherwise as `announce`."""
    await _publish(redis, execution_id, _PAUSED)


async def _publish(redis: Redis, execution_id: UUID, message: bytes) -> None:
    try:
        await redis.publish(channel(execution_id), message)
    except (RedisError, OSError) as failure:
        log.warning(
            "executions.announce_failed", execution_id=str(execution_id), error=str(failure)
        )


def _read_message(execution_id: UUID, data: bytes) -> ExecutionEnd | None:
    if data == RESYNC:
        return None
    message = orjson.loads(data)
    if message.get("in_row"):
        return None
    return ExecutionEnd(
        execution_id=execution_id,
        status=ExecutionStatus(message["status"].upper()),
        result=message.get("result"),
        error=message.get("error"),
    )


async def _read_row(context: AppContext, execution_id: UUID) -> ExecutionEnd | None:
    try:
        async with context.autocommit.connect() as connection:
            row = (await connection.execute(_END, {"key": execution_id})).first()
    except (SQLAlchemyError, OSError) as error:
        # The caller's function may still end well; keep waiting for as long as was asked.
        log.warning("executions.look_failed", error=type(error).__name__)
        return None
    if row is None:
        return None
    if row.status is ExecutionStatus.AWAITING_INPUT and row.answer is None:
        return _paused(execution_id, row.prompt)
    if row.status not in TERMINAL_EXECUTION:
        return None
    return ExecutionEnd(
        execution_id=execution_id, status=row.status, result=row.output_data, error=row.error
    )


def _paused(execution_id: UUID, prompt: str) -> ExecutionEnd:
    status = ExecutionStatus.AWAITING_INPUT
    result: JsonObject = {
        "status": status.lower(),
        "execution_id": str(execution_id),
        "prompt": prompt,
    }
    return ExecutionEnd(execution_id=execution_id, status=status, result=result, prompt=prompt)


async def wait_for_end(
    context: AppContext,
    listener: Listener,
    execution_id: UUID,
    seconds: float,
    *,
    look_first: bool = False,
) -> ExecutionEnd | None:
    """How the execution ended or that it waits for input; None when neither after `seconds`.

    `listener` must listen to `channel(execution_id)` since before the execution was committed;
    where it cannot, `look_first` reads the row before waiting.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    if look_first and (end := await _read_row(context, execution_id)) is not None:
        return end
    while (left := deadline - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                data = await listener.get()
        except TimeoutError:
            data = RESYNC
        end = _read_message(execution_id, data) or await _read_row(context, execution_id)
        if end is not None:
            return end
    return None
