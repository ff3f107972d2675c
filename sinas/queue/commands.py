"""Commands: what an operator asks of one running worker, with an answer.

Over Redis pub/sub, because a command is for a process that lives now: one that is gone, or
starts later, must not find it. The body runs in the worker; its errors travel back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sinas.errors import (
    InvalidInputError,
    NotFoundError,
    SinasError,
    UnavailableError,
    UpstreamError,
)
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.queue.signals import RESYNC, Signals

log = structlog.get_logger(__name__)

_COMMAND = "sinas:worker:command:"
_REPLY = "sinas:worker:reply:"
_RETRY_SECONDS = 0.1
_ABSENT_SECONDS = 3.0
_PASSED_ON = {error.code: error for error in (InvalidInputError, NotFoundError, UpstreamError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing workers can be told to do.

    Attributes:
        name: `plural.verb`.
        run: `async def body(context, arguments) -> JSON value`.
    """

    name: str
    run: Callable[[Any, JsonObject], Awaitable[JsonValue]]


def command(
    name: str,
) -> Callable[[Callable[[Any, JsonObject], Awaitable[JsonValue]]], Command]:
    """Declare the body of a command."""
    return lambda body: Command(name=name, run=body)


async def call_worker(
    redis: Redis,
    signals: Signals,
    worker_id: UUID,
    wanted: Command,
    arguments: JsonObject,
    *,
    seconds: float,
) -> JsonValue:
    """Have one worker run a command; its answer.

    Raises:
        UnavailableError: The worker did not answer within `seconds`, does not listen at all, or
            failed in an unforeseen way.
        InvalidInputError: Raised by the body, as are `NotFoundError` and `UpstreamError`.
    """
    call_id = str(uuid7())
    message = orjson.dumps({"id": call_id, "name": wanted.name, "arguments": arguments})
    try:
        # Around the subscription too: while Redis is away it never comes about.
        async with (
            asyncio.timeout(seconds),
            signals.listen(f"{_REPLY}{call_id}") as replies,
        ):
            # A worker that starts holds its lease a moment before it listens, and one that was
            # killed for as long as it was given.
            async with asyncio.timeout(_ABSENT_SECONDS):
                while not await redis.publish(f"{_COMMAND}{worker_id}", message):  # noqa: ASYNC110
                    await asyncio.sleep(_RETRY_SECONDS)
            while (data := await replies.get()) == RESYNC:
                log.warning("commands.reply_may_be_lost", command=wanted.name)
    except TimeoutError:
        raise UnavailableError(f"Worker {worker_id} did not answer '{wanted.name}'.") from None
    reply = orjson.loads(data)
    if "error" in reply:
        raise _PASSED_ON.get(reply["code"], UnavailableError)(reply["error"])
    answer: JsonValue = reply["answer"]
    return answer


async def serve_commands(
    redis: Redis, signals: Signals, worker_id: UUID, commands: Sequence[Command], context: Any
) -> None:
    """Run what is asked of this worker, each command in a task of its own, until cancelled."""
    known = {each.name: each for each in commands}
    async with (
        signals.listen(f"{_COMMAND}{worker_id}") as calls,
        asyncio.TaskGroup() as group,
    ):
        while True:
            data = await calls.get()
            if data != RESYNC:
                group.create_task(_answer(redis, known, context, data))


async def _answer(redis: Redis, known: dict[str, Command], context: Any, data: bytes) -> None:
    message = orjson.loads(data)
    try:
        found = known[message["name"]]
        reply: JsonObject = {"answer": await found.run(context, message["arguments"])}
    except SinasError as error:
        reply = {"error": error.message, "code": error.code}
    except Exception:
        log.exception("commands.failed", command=message["name"])
        reply = {"error": "The worker could not do it; its log says why.", "code": "internal"}
    with suppress(RedisError):  # whoever asked gives up by itself
        await redis.publish(f"{_REPLY}{message['id']}", orjson.dumps(reply))
