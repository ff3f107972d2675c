"""The process itself: killed in the middle, side by side with others, without its databases."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from sinas.cdc import run
from sinas.models import DatabaseConnection
from tests.e2e.killing import environ_of
from tests.resources.database_triggers.conftest import SLOTS

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.servers import Servers
    from tests.resources.database_triggers.conftest import Replicate, Watch, Watched

ROOT = Path(__file__).parents[3]
SECONDS = 30


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


class Processes:
    """`sinas cdc`, several times."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self._environ = environ
        self._log = log
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sinas", "cdc"],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            await asyncio.to_thread(process.wait, 15)


@pytest.fixture
async def processes(context: AppContext, tmp_path: Path) -> AsyncIterator[Processes]:
    started = Processes(environ_of(context.settings), tmp_path / "cdc.log")
    try:
        yield started
    finally:
        await started.stop()


async def reported(watched: Watched, count: int) -> None:
    async def all_there() -> bool:
        return len(await watched.rows()) >= count

    await until(all_there)


async def test_killed_processes_lose_and_double_nothing(
    watch: Watch, source: asyncpg.Connection, processes: Processes
) -> None:
    """Two at once, batches of three, killed again and again while rows keep coming."""
    watched = await watch(batch_size=3, poll_column="at")
    processes.start()
    victim = processes.start()
    count = 0
    for _ in range(3):
        before = len(await watched.rows())
        await source.execute("INSERT INTO items (name) SELECT 'x' FROM generate_series(1, 150)")
        count += 150
        await reported(watched, before + 1)
        processes.kill(victim)
        victim = processes.start()
    await reported(watched, count)
    assert sorted(await watched.rows()) == list(range(1, count + 1))


async def test_killed_processes_lose_and_double_nothing_of_the_log(
    replicate: Replicate, log: asyncpg.Connection, processes: Processes
) -> None:
    """As above, with transactions larger than a batch, of which rows are deleted, too."""
    watched = await replicate(batch_size=3, poll_interval_seconds=1)
    processes.start()
    victim = processes.start()
    expected: list[tuple[str, int]] = []
    for start in (1, 121):
        before = len(await watched.rows())
        await log.execute("INSERT INTO items (name) SELECT 'x' FROM generate_series(1, 120)")
        await log.execute("DELETE FROM items WHERE id % 2 = 0")
        expected += [("INSERT", number) for number in range(start, start + 120)]
        expected += [("DELETE", number) for number in range(start + 1, start + 120, 2)]
        await reported(watched, before + 1)
        processes.kill(victim)
        victim = processes.start()
    await reported(watched, len(expected))
    found = [
        (operation, row["id"])
        for given in await watched.inputs()
        for operation, row in zip(given["operations"], given["rows"], strict=True)
    ]
    assert found == expected


async def test_what_a_dead_process_had_is_taken_over(
    watch: Watch, source: asyncpg.Connection, processes: Processes, context: AppContext
) -> None:
    watched = await watch(batch_size=1)
    first = processes.start()
    await source.execute("INSERT INTO items (name) SELECT 'x' FROM generate_series(1, 250)")
    await reported(watched, 1)
    processes.kill(first)
    left = await watched.row()
    assert left.lease_owner is not None
    assert len(await watched.rows()) < 250
    second = processes.start()
    await reported(watched, 250)
    assert await watched.rows() == list(range(1, 251))
    assert second.poll() is None


async def test_one_database_that_is_down_stops_no_other_trigger(
    watch: Watch, source: asyncpg.Connection, context: AppContext, connection: DatabaseConnection
) -> None:
    watched = await watch()
    down = await watch(looked=False, schema_name="nowhere")

    async def told() -> bool:
        return (await down.row()).failures >= 2

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(context))
        await source.execute("INSERT INTO items (name) VALUES ('x')")
        await reported(watched, 1)
        await until(told)
        task.cancel()
    assert "no table" in str((await down.row()).error_message)


async def test_the_process_drops_slots_that_nobody_uses(
    replicate: Replicate, admin: httpx.AsyncClient, log: asyncpg.Connection, context: AppContext
) -> None:
    watched = await replicate()
    assert (await admin.delete(f"/api/v1/database-triggers/{watched.id}")).status_code == 204

    async def dropped() -> bool:
        return await log.fetchval(f"SELECT count(*) FROM {SLOTS}") == 0  # type: ignore[no-any-return]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(context))
        await until(dropped)
        task.cancel()


async def test_connections_that_the_server_cuts(
    watch: Watch, source: asyncpg.Connection, servers: Servers, source_url: str
) -> None:
    """As after a restart of the database: the next look opens new ones."""
    watched = await watch()
    await source.execute("INSERT INTO items (name) VALUES ('x')")
    name = source_url.rpartition("/")[2].partition("?")[0]
    await servers.admin(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND application_name = 'sinas'"
    )
    for _ in range(3):
        await watched.look()
    assert await watched.rows("name") == ["x"]
    assert (await watched.row()).error_message is None
