"""Typed jobs: a call that mypy checks, pushed after the commit, run by an arq worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from sinas.db.direct import DirectStatements, Statement
from sinas.db.unit import QueuedJob, Unit


class Asking(Protocol):
    """A context of which the database can be asked by raw statements."""

    @property
    def direct(self) -> DirectStatements:
        """Where they go."""
        ...


P = ParamSpec("P")
C = TypeVar("C")
A = TypeVar("A", bound=Asking)


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
class Sweep(Generic[A]):
    """Periodic upkeep, run by the scheduler. Safe to run in several processes at once.

    Attributes:
        name: `plural.verb`.
        every: Pause between the end of one run and the start of the next.
        work: `async def sweep(context) -> None`.
        due: Answers no row where there is nothing to do. It costs a tenth of what `work` does,
            and an idle platform does little else.
    """

    name: str
    every: timedelta
    work: Callable[[A], Awaitable[None]]
    due: Statement | None = None

    async def run(self, context: A) -> None:
        """Do what is to be done, if anything."""
        if self.due is None or await context.direct.one(self.due, {}) is not None:
            await self.work(context)


AnyJob = Job[Any, ...]
AnySweep = Sweep[Any]
