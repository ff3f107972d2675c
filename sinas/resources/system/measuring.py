"""Measuring what is not a worker: the host, this process, Redis, PostgreSQL."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import psutil
from redis.exceptions import RedisError
from sqlalchemy import text

from sinas.context import AppContext
from sinas.resources.system.schemas import HostRead, MemoryRead, ServiceRead

_SECONDS: Final = 2.0
_MIB: Final = 2**20
_GIB: Final = 2**30
_SELF: Final = psutil.Process()
_UPTIME = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")


def measure_host(data_dir: Path) -> HostRead:
    """The machine this process runs on. CPU is since the question before. Blocks."""
    memory = psutil.virtual_memory()
    # Where the databases are elsewhere, an API process may have no data directory yet.
    path = data_dir.resolve()
    disk = psutil.disk_usage(str(next(each for each in (path, *path.parents) if each.exists())))
    return HostRead(
        cpu_percent=psutil.cpu_percent(interval=None),
        memory_total_mb=round(memory.total / _MIB, 1),
        memory_used_mb=round(memory.used / _MIB, 1),
        memory_percent=memory.percent,
        disk_total_gb=round(disk.total / _GIB, 1),
        disk_used_gb=round(disk.used / _GIB, 1),
        disk_percent=disk.percent,
    )


def measure_api(*, include_stats: bool) -> ServiceRead:
    """The API process that answers. Blocks."""
    memory = None
    if include_stats:
        total = psutil.virtual_memory().total / _MIB
        memory = memory_of(_SELF.memory_info().rss / _MIB, total)
    return ServiceRead(
        name=f"api-{_SELF.pid}",
        service="api",
        status="running",
        health="healthy",
        uptime_seconds=int(time.time() - _SELF.create_time()),
        cpu_percent=_SELF.cpu_percent(interval=None) if include_stats else None,
        memory=memory,
    )


async def measure_redis(context: AppContext, *, include_stats: bool) -> ServiceRead:
    """Redis; stopped when it does not answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            info: dict[str, Any] | None = await context.redis.info()
    except (RedisError, OSError, TimeoutError):
        info = None
    memory = None
    if info is not None and include_stats:
        limit = info["maxmemory"] or info["total_system_memory"]
        memory = memory_of(info["used_memory"] / _MIB, limit / _MIB)
    return ServiceRead(
        name="redis",
        service="redis",
        status="stopped" if info is None else "running",
        health="unhealthy" if info is None else "healthy",
        uptime_seconds=None if info is None else info["uptime_in_seconds"],
        cpu_percent=None,
        memory=memory,
    )


async def measure_postgres(context: AppContext) -> ServiceRead:
    """PostgreSQL. Without it nobody can be signed in, so this question would not be answered."""
    async with context.autocommit.connect() as connection:
        uptime = await connection.scalar(_UPTIME)
    return ServiceRead(
        name="postgres",
        service="postgres",
        status="running",
        health="healthy",
        uptime_seconds=int(uptime or 0),
        cpu_percent=None,
        memory=None,
    )


def memory_of(used_mb: float, limit_mb: float) -> MemoryRead:
    """Used memory and its limit, in MiB."""
    return MemoryRead(
        used_mb=round(used_mb, 1),
        limit_mb=round(limit_mb, 1),
        percent=round(100 * used_mb / limit_mb, 1),
    )
