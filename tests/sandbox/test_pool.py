"""Leasing, recycling and shutting down, with real sandboxes of either back end."""

import asyncio
import time

import pytest

from sinas.errors import UnavailableError
from sinas.sandbox import pool as pool_module
from sinas.sandbox.base import Outcome, Profile, Returned, Sandbox, TimedOut
from sinas.sandbox.pool import Member
from tests.sandbox.conftest import OpenSandbox, invocation, until, value_of

SLEEP = "import time\n\ndef handler(i, c):\n    time.sleep(i)\n    return i"
ECHO = "def handler(i, c):\n    return i"


async def eventually_idle(sandbox: Sandbox, count: int) -> None:
    await until(lambda: len(sandbox.status().idle) >= count and not sandbox.status().in_use)


async def run_all(sandbox: Sandbox, inputs: range) -> list[Outcome]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(sandbox.run(invocation(ECHO, input=i))) for i in inputs]
    return [task.result() for task in running]


async def test_a_burst_is_answered_in_full_by_few_sandboxes(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=4)
    outcomes = await run_all(pool, range(60))
    assert [getattr(one, "value", one) for one in outcomes] == list(range(60))
    status = pool.status()
    assert len(status.idle) + len(status.in_use) <= 4


async def test_brief_calls_do_not_make_the_pool_grow(
    open_pool: OpenSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_BRIEF_SECONDS", 60)
    pool = await open_pool(max_size=4, min_idle=2)
    await eventually_idle(pool, 2)
    await run_all(pool, range(20))
    await eventually_idle(pool, 2)
    assert len(pool.status().idle) == 2


async def test_long_calls_make_the_pool_grow(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=3)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(pool.run(invocation(SLEEP, input=30))) for _ in range(3)]
        await until(lambda: len(pool.status().in_use) == 3)
        for task in running:
            task.cancel()


async def test_calls_run_side_by_side(open_pool: OpenSandbox) -> None:
    pool = await open_pool(min_size=2, max_size=2)
    span = """
        import time

        def handler(input_data, context):
            started = time.time()
            time.sleep(1.5)
            return [started, time.time()]
    """
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(pool.run(invocation(span))) for _ in range(2)]
    spans = [value_of(task.result()) for task in running]
    assert max(start for start, _ in spans) < min(end for _, end in spans)


async def test_waiting_longer_than_the_limit_is_unavailable(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=1, acquire_timeout=0.3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pool.run(invocation(SLEEP, input=2)))
        await asyncio.sleep(0.1)
        with pytest.raises(UnavailableError, match=r"No sandbox became free within 0\.3 s"):
            await pool.run(invocation(ECHO))
    assert isinstance(running.result(), Returned)
    await eventually_idle(pool, 1)


async def test_a_used_up_sandbox_is_replaced(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=1, max_executions=2)
    names = set()
    for number in range(5):
        await eventually_idle(pool, 1)
        names.add(pool.status().idle[0].name)
        assert value_of(await pool.run(invocation(ECHO, input=number))) == number
    assert len(names) == 3


async def test_a_tainted_sandbox_is_replaced(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=1)
    before = pool.status().idle[0].name
    assert isinstance(await pool.run(invocation(SLEEP, input=60, timeout=0.5)), TimedOut)
    await eventually_idle(pool, 1)
    assert pool.status().idle[0].name != before


async def test_cancelling_kills_the_call(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=1)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await pool.run(invocation(SLEEP, input=60, timeout=60))
    await eventually_idle(pool, 1)
    assert isinstance(await pool.run(invocation(ECHO)), Returned)
    assert time.monotonic() - started < 30  # far less than the call would have taken


async def test_a_cancelled_waiter_does_not_keep_a_sandbox(open_pool: OpenSandbox) -> None:
    pool = await open_pool(max_size=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pool.run(invocation(SLEEP, input=1)))
        await asyncio.sleep(0.1)
        waiter = asyncio.ensure_future(pool.run(invocation(ECHO)))
        await asyncio.sleep(0.1)
        waiter.cancel()
        last = tasks.create_task(pool.run(invocation(ECHO, input="last")))
    assert getattr(last.result(), "value", None) == "last"
    assert waiter.cancelled()


async def test_a_closed_pool_refuses(open_pool: OpenSandbox) -> None:
    pool = await open_pool()
    await pool.aclose()
    with pytest.raises(UnavailableError):
        await pool.run(invocation(ECHO))


async def test_a_back_end_that_is_away_is_not_asked_without_end(
    open_pool: OpenSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(max_size=4, acquire_timeout=2)
    inner = pool._own  # type: ignore[attr-defined]
    source = inner._source
    create, asked = source.create, 0

    async def away(profile: Profile) -> Member:
        nonlocal asked
        asked += 1
        raise UnavailableError("The engine is away.")

    monkeypatch.setattr(source, "create", away)
    lost, inner._idle = inner._idle, []
    for slot in lost:
        await slot.member.destroy()
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(_refused(pool)) for _ in range(4)]
    assert all("The engine is away." in task.result() for task in waiting)
    assert 1 <= asked <= 20
    monkeypatch.setattr(source, "create", create)
    await eventually_idle(pool, 1)
    assert value_of(await pool.run(invocation(ECHO, input="back"))) == "back"


async def _refused(pool: Sandbox) -> str:
    with pytest.raises(UnavailableError) as caught:
        await pool.run(invocation(ECHO))
    return caught.value.message
