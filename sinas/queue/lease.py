"""Worker leases in PostgreSQL: one row per process, renewed for all its work at once."""

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import structlog
from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import InstrumentedAttribute

from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonObject
from sinas.models import Worker

log = structlog.get_logger(__name__)


def owner_is_dead(owner: InstrumentedAttribute[UUID | None]) -> ColumnElement[bool]:
    """SQL: no living worker holds the row whose `lease_owner` column this is."""
    living = select(Worker.id).where(Worker.lease_until > func.clock_timestamp())
    return or_(owner.is_(None), owner.not_in(living))


def living_workers(queue: str | None = None) -> Select[Worker]:
    """SQL: the workers that hold a lease now, of one queue or of all, oldest first."""
    statement = select(Worker).where(Worker.lease_until > func.clock_timestamp())
    if queue is not None:
        statement = statement.where(Worker.queue == queue)
    return statement.order_by(Worker.id)


class WorkerLease:
    """This process's lease. Renewed three times per term; `lost` is set when that failed.

    A process whose lease ran out must assume that others do its work already: its owner
    cancels what runs when `lost` is set.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        queue: str,
        max_jobs: int,
        term: timedelta,
        info: Callable[[], JsonObject] = dict,
    ) -> None:
        self.worker_id = uuid7()
        self.lost = asyncio.Event()
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._queue = queue
        self._max_jobs = max_jobs
        self._term = term
        self._info = info

    async def acquire(self) -> None:
        """Register the process. Frees what earlier processes of this host left behind."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                select(Worker.id, Worker.pid).where(Worker.hostname == _host())
            )
            dead = [row.id for row in rows if not psutil.pid_exists(row.pid)]
            await connection.execute(delete(Worker).where(Worker.id.in_(dead)))
            await connection.execute(
                insert(Worker).values(
                    id=self.worker_id,
                    queue=self._queue,
                    hostname=_host(),
                    pid=os.getpid(),
                    max_jobs=self._max_jobs,
                    lease_until=func.clock_timestamp() + self._term,
                    info=self._info(),
                )
            )

    async def keep(self) -> None:
        """Renew until cancelled; sets `lost` and returns when a whole term passed in vain."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        pause = self._term.total_seconds() / 3
        while True:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(pause):
                    held = await self._renew()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("lease.renewal_failed", error=type(error).__name__)
                held = True
            else:
                renewed = loop.time() if held else renewed
            if not held or loop.time() - renewed > self._term.total_seconds():
                log.error("lease.lost", worker_id=str(self.worker_id))
                self.lost.set()
                return

    async def release(self) -> None:
        """Give the lease back: whatever still carries it is free at once."""
        async with self._engine.connect() as connection:
            await connection.execute(delete(Worker).where(Worker.id == self.worker_id))

    async def _renew(self) -> bool:
        async with self._engine.connect() as connection:
            result = await connection.execute(
                update(Worker)
                .where(Worker.id == self.worker_id)
                .values(lease_until=func.clock_timestamp() + self._term, info=self._info())
                .returning(Worker.id)
            )
            return result.first() is not None


def _host() -> str:
    """Where a pid means something: the host, and its pid namespace where containers share one."""
    return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink().name}"
