"""The pools of this process: one for each connection, as its row is now."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import structlog

from sinas.databases.base import Database, DatabaseTarget
from sinas.databases.opening import open_database

log = structlog.get_logger(__name__)

Opener: TypeAlias = Callable[[DatabaseTarget], Coroutine[Any, Any, Database]]

_IDLE_SECONDS = 300.0
_LOOK_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class _Pool:
    target: DatabaseTarget
    database: Database
    users: int = 0
    is_retired: bool = False
    used_at: float = field(default_factory=time.monotonic)


class DatabasePools:
    """Hands out the pool of a target, opening it when first asked for.

    A pool whose row has changed is not handed out again, and is closed once nobody uses it: the
    target is compared on every use, so that no message needs to arrive for that. Messages
    (`forget`) and a sweep of idle pools close what is not asked for again.
    """

    def __init__(self, opener: Opener = open_database) -> None:
        self._opener = opener
        self._pools: dict[UUID, _Pool] = {}
        self._opening: dict[UUID, asyncio.Lock] = {}

    @asynccontextmanager
    async def database(self, target: DatabaseTarget) -> AsyncIterator[Database]:
        """The pool of a target, for the length of the block.

        Raises:
            UnreachableError: It cannot be opened.
            DriverMissingError: Its driver is not installed.
        """
        if target.connection_id is None:
            tried = await self._opener(target)
            try:
                yield tried
            finally:
                await tried.aclose()
            return
        pool = await self._pool(target.connection_id, target)
        pool.users += 1
        try:
            yield pool.database
        finally:
            pool.users -= 1
            pool.used_at = time.monotonic()
            await self._close_unused(pool)

    async def forget(self, connection_id: UUID) -> None:
        """Close the pool of a connection that was changed or deleted, once nobody uses it."""
        if (pool := self._pools.pop(connection_id, None)) is not None:
            pool.is_retired = True
            await self._close_unused(pool)

    async def sweep(self) -> None:
        """Close idle pools, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.close_idle(_IDLE_SECONDS)

    async def close_idle(self, seconds: float) -> None:
        """Close the pools that were not used for so long."""
        before = time.monotonic() - seconds
        for connection_id, pool in list(self._pools.items()):
            if pool.users == 0 and pool.used_at <= before:
                await self.forget(connection_id)

    async def aclose(self) -> None:
        """Close all of them, those in use included."""
        for pool in list(self._pools.values()):
            pool.is_retired = True
            await _close(pool)
        self._pools.clear()

    async def _pool(self, connection_id: UUID, target: DatabaseTarget) -> _Pool:
        if (pool := self._fresh(connection_id, target)) is not None:
            return pool
        # One at a time for each connection: a hundred first queries open one pool.
        lock = self._opening.setdefault(connection_id, asyncio.Lock())
        async with lock:
            if (pool := self._fresh(connection_id, target)) is not None:
                return pool
            await self.forget(connection_id)
            opened = _Pool(target, await self._opener(target))
            self._pools[connection_id] = opened
            return opened

    def _fresh(self, connection_id: UUID, target: DatabaseTarget) -> _Pool | None:
        pool = self._pools.get(connection_id)
        return pool if pool is not None and pool.target == target else None

    async def _close_unused(self, pool: _Pool) -> None:
        if pool.is_retired and pool.users == 0:
            await _close(pool)


async def _close(pool: _Pool) -> None:
    try:
        await pool.database.aclose()
    except Exception:
        # The server may be gone; the pool is given up in any case.
        log.warning("databases.close_failed", connection=pool.target.name, exc_info=True)
