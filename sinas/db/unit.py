"""Unit: one transaction and the things that must wait for its commit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from sinas.db.direct import DirectStatements, Statement

log = structlog.get_logger(__name__)

AfterCommit = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that is pushed once the rows it reads are committed.

    Attributes:
        queue: Redis key of the queue's lane.
        name: The job's registered name.
        job_id: Duplicates of one id collapse into one entry.
        args: JSON scalars.
        delay: How long after the commit the job may start.
    """

    queue: str
    name: str
    job_id: str
    args: tuple[Any, ...] = ()
    delay: timedelta = timedelta(0)


class JobSink(Protocol):
    """Where committed jobs and messages go."""

    async def push(self, jobs: Sequence[QueuedJob]) -> None:
        """Push all of them in one round trip."""
        ...

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish each message on its channel, in order, in one round trip."""
        ...


@dataclass(slots=True)
class Unit:
    """One transaction. Services flush into `session`; nobody but `unit_of_work` commits.

    `direct` is set where every statement is a transaction of its own.
    """

    session: AsyncSession
    direct: DirectStatements | None = None
    _jobs: list[QueuedJob] = field(default_factory=list)
    _messages: list[tuple[str, bytes]] = field(default_factory=list)
    _after_commit: list[AfterCommit] = field(default_factory=list)

    async def one(self, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        """The first row of a statement, by column name, or None: raw where the unit is only statements."""
        if self.direct is not None:
            return await self.direct.one(statement, parameters)
        found = await self.session.execute(statement.source, dict(parameters))
        return found.mappings().first()

    def queue_job(self, job: QueuedJob) -> None:
        """Push `job` after the commit; dropped on rollback."""
        self._jobs.append(job)

    def publish(self, channel: str, message: bytes) -> None:
        """Publish after the commit; dropped on rollback.

        It may get lost: whoever listens also looks at the rows.
        """
        self._messages.append((channel, message))

    def after_commit(self, action: AfterCommit) -> None:
        """Await `action` after the commit, in order; dropped on rollback.

        A failing action is logged: the transaction stands, so an error here must not tell the
        caller that nothing happened. What must not get lost is found again by a sweep.
        """
        self._after_commit.append(action)


@asynccontextmanager
async def unit_of_work(
    sessions: async_sessionmaker[AsyncSession],
    jobs: JobSink,
    direct: DirectStatements | None = None,
) -> AsyncIterator[Unit]:
    """Commit when the block ends, roll back when it raises, then run what was deferred."""
    async with sessions() as session:
        unit = Unit(session, direct)
        try:
            yield unit
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
    if unit._jobs:
        try:
            await jobs.push(unit._jobs)
        except Exception:
            log.warning("jobs.push_failed", jobs=[job.job_id for job in unit._jobs], exc_info=True)
    if unit._messages:
        try:
            await jobs.publish(unit._messages)
        except Exception:
            log.warning("messages.publish_failed", messages=len(unit._messages), exc_info=True)
    for action in unit._after_commit:
        try:
            await action()
        except Exception:
            log.warning("after_commit.failed", exc_info=True)
