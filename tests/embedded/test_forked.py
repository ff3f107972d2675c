import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from sinas.embedded.children import Child
from sinas.embedded.forked import Nursery
from sinas.embedded.processes import ChildSpec
from sinas.settings import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the nursery is Linux's")


@contextlib.asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    opened = Nursery({**environment(), "PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        yield opened
    finally:
        await opened.stop()


def scheduler(name: str = "scheduler") -> ChildSpec:
    """A child that only waits for its word."""
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", "sinas", "scheduler", "--supervised"),
        env={"PATH": os.defpath},
        waits=True,
    )


async def lines_of(spec: ChildSpec, opened: Nursery) -> tuple[int, list[str]]:
    lines: list[str] = []
    child = Child(
        spec,
        on_line=lambda _, line: lines.append(line),
        on_event=lambda *_: None,
        on_change=lambda: None,
        launch=opened.launch,
    )
    async with asyncio.timeout(50):
        return await child.run_once(), lines


async def test_a_forked_child_answers_as_a_started_one_would() -> None:
    spec = ChildSpec(
        name="help", argv=(sys.executable, "-m", "sinas", "--help"), env={"PATH": os.defpath}
    )
    async with nursery() as opened:
        code, lines = await lines_of(spec, opened)
        assert code == 0
        assert any("Self-hosted AI platform" in line for line in lines)
        wrong = ChildSpec(name="wrong", argv=(*spec.argv[:3], "no-such-command"), env=spec.env)
        code, lines = await lines_of(wrong, opened)
        assert code == 2
        assert any("no-such-command" in line for line in lines)


async def test_it_shows_its_own_command_line_and_environment() -> None:
    async with nursery() as opened, asyncio.timeout(50):
        process = await opened.launch(scheduler())
        seen = psutil.Process(process.pid)
        while "scheduler" not in seen.cmdline():
            await asyncio.sleep(0.02)
        assert [part for part in seen.cmdline() if part][1:] == list(scheduler().argv[1:])
        assert os.getpgid(process.pid) == process.pid
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM


async def test_no_child_outlives_the_nursery_and_the_next_order_gets_a_new_one() -> None:
    async with nursery() as opened, asyncio.timeout(50):
        first = await opened.launch(scheduler())
        parent = psutil.Process(first.pid).ppid()
        os.kill(parent, signal.SIGKILL)
        assert await first.wait() == -signal.SIGKILL

        second = await opened.launch(scheduler())

        assert psutil.Process(second.pid).ppid() != parent
        assert not psutil.pid_exists(first.pid) or (
            psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE
        )


async def test_a_child_whose_supervisor_closes_its_input_ends() -> None:
    async with nursery() as opened, asyncio.timeout(50):
        process = await opened.launch(scheduler())
        os.close(process._stdin)  # type: ignore[attr-defined]  # what the kernel does at a kill
        process._stdin = os.open(os.devnull, os.O_WRONLY)  # type: ignore[attr-defined]

        assert await process.wait() == 1
