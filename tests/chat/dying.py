"""Workers that die where they are told to: `python -m tests.chat.dying`.

One process imports everything and forks a worker for each line it reads, because a fork starts
at once and must come from a process without threads and without an event loop. A worker takes
what is queued and counts its steps: how often one of the tasks of a turn was resumed. Before the
step it is to die at, it ends as `kill -9` would end it, so that what the last await brought is
there and nothing after it happens.

A line is the JSON of an `Order`; the answer, once the worker is gone, is the JSON of a `Death`.
"""

import asyncio
import gc
import json
import mmap
import os
import struct
import sys
import traceback
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar
from uuid import UUID

import uvloop
from sqlalchemy import select
from typing_extensions import override

from sinas.context import AppContext, open_context
from sinas.models import TERMINAL_TURN, Turn
from sinas.queue.worker import QueueWorker
from sinas.worker import open_worker
from tests.fixtures.configuration import make_settings

DIED = 9
_IN_A_TURN: ContextVar[bool] = ContextVar("in_a_turn", default=False)
_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        turn_id: It stops by itself when this turn has ended and nothing is left to do.
        die_at: The step before which it ends; 0 for none.
    """

    database_url: str
    redis_url: str
    data_dir: str
    turn_id: str
    die_at: int


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended.

    Attributes:
        code: `DIED`, or 0 when it came to the turn's end.
        steps: How many it began.
    """

    EXPECTED: ClassVar = (0, DIED)
    code: int
    steps: int


class Steps:
    """Task factory that counts the steps of jobs and of all tasks they start."""

    def __init__(self, die_at: int, shown: mmap.mmap) -> None:
        self.alive = 0
        self._die_at = die_at
        self._shown = shown
        self._count = 0

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        is_job = getattr(coro, "__qualname__", "") == f"{QueueWorker.__name__}._run"
        if is_job:
            context = copy_context()
            context.run(_IN_A_TURN.set, True)
        if is_job or _IN_A_TURN.get():
            assert isinstance(coro, Coroutine)
            coro = _Counted(coro, self)
        return asyncio.Task(coro, loop=loop, name=name, context=context)

    def step(self) -> None:
        self._count += 1
        struct.pack_into("<I", self._shown, 0, self._count)
        if self._count == self._die_at:
            os._exit(DIED)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose every resumption is a step."""

    def __init__(self, inner: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self._inner = inner
        self._steps = steps
        steps.alive += 1

    @override
    def send(self, value: Any) -> Any:
        self._steps.step()
        try:
            return self._inner.send(value)
        except BaseException:  # StopIteration, too: it has returned
            self._steps.alive -= 1
            raise

    @override
    def throw(
        self,
        typ: Any,
        val: BaseException | object | None = None,
        tb: TracebackType | None = None,
    ) -> Any:
        self._steps.step()
        try:
            return self._inner.throw(typ) if val is None else self._inner.throw(typ, val, tb)
        except BaseException:
            self._steps.alive -= 1
            raise

    @override
    def close(self) -> None:
        self._inner.close()

    @override
    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


async def _work(order: Order, shown: mmap.mmap) -> None:
    settings = make_settings(
        database_url=order.database_url,
        redis_url=order.redis_url,
        data_dir=Path(order.data_dir),
    )
    steps = Steps(order.die_at, shown)
    async with open_context(settings) as context:
        asyncio.get_running_loop().set_task_factory(steps)
        async with open_worker("agents", context):
            while steps.alive or not await _has_ended(context, UUID(order.turn_id)):
                await asyncio.sleep(_LOOK_SECONDS)
            os._exit(0)


async def _has_ended(context: AppContext, turn_id: UUID) -> bool:
    async with context.statement_sessions() as session:
        return await session.scalar(select(Turn.status).where(Turn.id == turn_id)) in TERMINAL_TURN


def _fork(order: Order) -> Death:
    """Have a worker do what `order` says; blocks until it is gone."""
    shown = mmap.mmap(-1, 4)
    pid = os.fork()
    if pid == 0:
        try:
            uvloop.run(_work(order, shown))
        except BaseException:  # noqa: BLE001 - the fork goes no further
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return Death(os.waitstatus_to_exitcode(status), struct.unpack_from("<I", shown)[0])


def main() -> None:
    # Workers log to stdout; that is none of the answers' business.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.freeze()  # shared with every child instead of copied by its first collection
    for line in sys.stdin:
        death = _fork(Order(**json.loads(line)))
        answers.write(json.dumps(asdict(death)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
