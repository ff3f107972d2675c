"""Typed jobs: a call that mypy checks, pushed after the commit, run by an arq worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sinas.db.unit import QueuedJob, Unit

P = ParamSpec("P")
C = TypeVar("C")


class Queue(StrEnum):
    """Redis keys of the queues, by what their workers need."""

    FUNCTIONS = "sinas:queue:functions"
    AGENTS = "sinas:queue:agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[C, P]):
    """A registered job. Runs at least once: the body claims its row and returns if it cannot.

    Attributes:
        name: `plural.verb`.
        timeout: Hard limit of one run; bodies keep their own, shorter limits.
        tries: How often arq itself would run it again; 1, since leases in PostgreSQL decide.
    """

    name: str
    queue: Queue
    timeout: timedelta
    tries: int
    run: Callable[..., Awaitable[None]]

    def enqueue(
        self,
        unit: Unit,
        job_id: str,
        delay: timedelta = timedelta(0),
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Push after `unit` commits. Entries with the same `job_id` collapse into one.

        `args` must be JSON scalars; keyword arguments are not passed on the wire.
        """
        self.enqueue_in(unit, "", job_id, delay, *args, **kwargs)

    def enqueue_in(
        self,
        unit: Unit,
        lane: str,
        job_id: str,
        delay: timedelta = timedelta(0),
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """As `enqueue`, into a lane of the queue: a suffix such as `:nested`, with its own slots."""
        if kwargs:
            raise TypeError(f"{self.name}: job arguments are positional")
        unit.queue_job(
            QueuedJob(
                queue=f"{self.queue}{lane}", name=self.name, job_id=job_id, args=args, delay=delay
            )
        )


def job(
    name: str, *, queue: Queue, timeout: timedelta, tries: int = 1
) -> Callable[[Callable[Concatenate[C, P], Awaitable[None]]], Job[C, P]]:
    """Declare a job body: `async def body(context, *json_scalars) -> None`."""

    def declare(body: Callable[Concatenate[C, P], Awaitable[None]]) -> Job[C, P]:
        return Job(name=name, queue=queue, timeout=timeout, tries=tries, run=body)

    return declare


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Generic[C]):
    """Periodic upkeep, run by the scheduler. Safe to run in several processes at once.

    Attributes:
        name: `plural.verb`.
        every: Pause between the end of one run and the start of the next.
        run: `async def sweep(context) -> None`.
    """

    name: str
    every: timedelta
    run: Callable[[C], Awaitable[None]]


AnyJob = Job[Any, ...]
AnySweep = Sweep[Any]
