"""Commands: one living worker does what it is asked, and says how it went."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from sinas.context import AppContext
from sinas.errors import InvalidInputError, UnavailableError
from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.queue.commands import Command, call_worker, command, serve_commands


@command("tests.double")
async def double(context: str, arguments: JsonObject) -> JsonValue:
    number = arguments["number"]
    assert isinstance(number, int)
    return {"context": context, "double": number * 2}


@command("tests.refuse")
async def refuse(context: str, arguments: JsonObject) -> JsonValue:
    raise InvalidInputError("No such size.")


@command("tests.fail")
async def fail(context: str, arguments: JsonObject) -> JsonValue:
    raise RuntimeError("an unforeseen fault")


@command("tests.hang")
async def hang(context: str, arguments: JsonObject) -> JsonValue:
    await asyncio.Event().wait()
    return None


@asynccontextmanager
async def serving(context: AppContext, name: str = "here") -> AsyncIterator[UUID]:
    worker_id = uuid7()
    everything = (double, refuse, fail, hang)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            serve_commands(context.redis, context.signals, worker_id, everything, name)
        )
        yield worker_id
        task.cancel()


async def ask(
    context: AppContext, worker_id: UUID, wanted: Command, seconds: float = 5, **arguments: int
) -> JsonValue:
    return await call_worker(
        context.redis, context.signals, worker_id, wanted, dict(arguments), seconds=seconds
    )


async def test_the_worker_that_is_asked_answers(context: AppContext) -> None:
    async with serving(context, "a") as first, serving(context, "b") as second:
        assert await ask(context, second, double, number=4) == {"context": "b", "double": 8}
        assert await ask(context, first, double, number=1) == {"context": "a", "double": 2}


async def test_errors_travel_back_and_end_nothing(context: AppContext) -> None:
    async with serving(context) as worker:
        with pytest.raises(InvalidInputError, match="No such size"):
            await ask(context, worker, refuse)
        with pytest.raises(UnavailableError, match="its log says why"):
            await ask(context, worker, fail)
        assert await ask(context, worker, double, number=2) == {"context": "here", "double": 4}


async def test_a_worker_that_is_gone_or_busy_is_named(context: AppContext) -> None:
    with pytest.raises(UnavailableError, match=r"did not answer 'tests\.double'"):
        await ask(context, uuid7(), double, seconds=0.3, number=1)
    async with serving(context) as worker:
        with pytest.raises(UnavailableError, match=r"'tests\.hang'"):
            await ask(context, worker, hang, seconds=0.3)
