"""What an operator does with single sandboxes: measure them, end one that hangs."""

import asyncio

from sinas.sandbox.base import Crashed, Sandbox
from tests.sandbox.conftest import OpenSandbox, invocation, until, value_of

SPIN = "def handler(i, c):\n    while True:\n        pass"
HOLD = "import time\n\ndef handler(i, c):\n    kept = bytearray(64 * 2**20)\n    time.sleep(60)\n"
ECHO = "def handler(i, c):\n    return i"


async def ready(pool: Sandbox) -> None:
    """Wait for the shared sandbox, which is made in the background."""
    await until(lambda: len(pool.status().shared) == 1)


async def test_each_sandbox_is_measured(open_pool: OpenSandbox) -> None:
    pool = await open_pool(min_size=2, shared_workers=1, shared_memory="512m")
    await ready(pool)
    async with asyncio.TaskGroup() as tasks:
        spinning = tasks.create_task(pool.run(invocation(SPIN)))
        holding = tasks.create_task(pool.run(invocation(HOLD, shared=True)))
        await until(lambda: len(pool.status().in_use) == 1)
        status = pool.status()
        usage = await pool.usage()
        while usage[status.shared[0].name].memory_used_mb < 64:
            usage = await pool.usage()
        for task in (spinning, holding):
            task.cancel()
    assert usage.keys() == {m.name for m in (*status.idle, *status.in_use, *status.shared)}
    busy, idle = usage[status.in_use[0].name], usage[status.idle[0].name]
    assert busy.cpu_percent > idle.cpu_percent
    assert idle.memory_used_mb > 0
    assert idle.memory_limit_mb == 256
    assert usage[status.shared[0].name].memory_limit_mb == 512


async def test_an_idle_sandbox_is_replaced(open_pool: OpenSandbox) -> None:
    pool = await open_pool(shared_workers=1)
    await ready(pool)
    own, shared = pool.status().idle[0].name, pool.status().shared[0].name
    assert pool.replace(own)
    assert pool.replace(shared)
    await until(lambda: [m.name for m in pool.status().idle] not in ([], [own]))
    await until(lambda: [m.name for m in pool.status().shared] not in ([], [shared]))
    assert value_of(await pool.run(invocation(ECHO, input=1))) == 1
    assert value_of(await pool.run(invocation(ECHO, input=2, shared=True))) == 2
    assert not pool.replace(own)
    assert not pool.replace("postgres")


async def test_what_runs_in_a_replaced_sandbox_ends_and_says_why(open_pool: OpenSandbox) -> None:
    pool = await open_pool(shared_workers=1)
    await ready(pool)
    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(pool.run(invocation(SPIN, shared=shared))) for shared in (False, True)
        ]
        await until(lambda: bool(pool.status().in_use and pool.status().shared[0].running))
        assert pool.replace(pool.status().in_use[0].name)
        assert pool.replace(pool.status().shared[0].name)
    for call in calls:
        outcome = call.result()
        assert isinstance(outcome, Crashed)
        assert "an operator restarted it" in outcome.reason
