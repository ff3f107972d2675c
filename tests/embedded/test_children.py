import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from sinas.embedded.children import Child, describe_end
from sinas.embedded.processes import ChildSpec

STARTS = "import os, sys; open(sys.argv[1], 'a').write('started\\n'); "


class Watched:
    """A child with what it said."""

    def __init__(self, code: str, *arguments: str, **options: object) -> None:
        self.lines: list[str] = []
        self.events: list[str] = []
        spec = ChildSpec(
            name="dummy",
            argv=(sys.executable, "-c", code, *arguments),
            env={"PATH": os.defpath},
            **options,  # type: ignore[arg-type]
        )
        self.child = Child(
            spec,
            on_line=lambda _, line: self.lines.append(line),
            on_event=lambda _, line: self.events.append(line),
            on_change=lambda: None,
        )


@contextlib.asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[Child]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.run())
        try:
            yield watched.child
        finally:
            await watched.child.stop(5)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_its_lines_are_passed_on_one_by_one() -> None:
    watched = Watched("print('one\\ntwo'); print('no newline', end='')")

    assert await watched.child.run_once() == 0
    assert watched.lines == ["one", "two", "no newline"]
    assert watched.child.last_line == "no newline"


async def test_a_child_that_dies_is_started_again() -> None:
    watched = Watched("print('up', flush=True); import time; time.sleep(60)")
    async with running(watched) as child:
        await until(lambda: watched.lines == ["up"])
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: watched.lines == ["up", "up"])
        assert child.pid not in {None, first}
        assert child.failures == 1
    assert "was ended by SIGKILL; starting it again" in watched.events[0]


async def test_pauses_between_starts_grow(tmp_path: Path) -> None:
    watched = Watched(STARTS + "sys.exit(3)", str(tmp_path / "starts"))
    async with running(watched) as child:
        await child.wait_failures(3)
    assert [event.rsplit(" in ", 1)[1] for event in watched.events] == ["0.3 s", "0.6 s", "1.2 s"]


async def test_a_program_that_is_not_there_counts_as_a_failure() -> None:
    watched = Watched("")
    watched.child.spec = ChildSpec(name="dummy", argv=("/nonexistent/program",), env={})
    async with running(watched) as child:
        await child.wait_failures(1)
    assert "could not be started" in watched.events[0]


async def test_stop_takes_the_whole_group(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(inner.pid, flush=True); time.sleep(60)"
    )
    watched = Watched(code)
    async with running(watched) as child:
        await until(lambda: watched.lines)
        assert await child.stop(0.2) is False
    inner = int(watched.lines[0])
    await until(lambda: not is_alive(inner))


async def test_a_waiting_child_goes_on_when_told_also_after_a_restart() -> None:
    code = (
        "from sinas.embedded.lifeline import wait_for_go\n"
        "print('imported', flush=True); wait_for_go(); print('going', flush=True)\n"
        "import time; time.sleep(60)"
    )
    watched = Watched(code, waits=True)
    watched.child.spec = ChildSpec(
        name="dummy",
        argv=watched.child.spec.argv,
        env={"PATH": os.defpath},
        cwd=Path(__file__).parents[2],
        waits=True,
    )
    async with running(watched) as child:
        await until(lambda: watched.lines == ["imported"])
        child.release()
        await until(lambda: watched.lines == ["imported", "going"])
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: watched.lines == ["imported", "going"] * 2)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor = (
        "import asyncio, sys\n"
        "from sinas.embedded.children import Child\n"
        "from sinas.embedded.processes import ChildSpec\n"
        "say = lambda name, line: print(line, flush=True)\n"
        "code = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "spec = ChildSpec(name='dummy', argv=(sys.executable, '-c', code), env={})\n"
        "asyncio.run(Child(spec, on_line=say, on_event=say, on_change=lambda: None).run())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        supervisor,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert is_alive(pid)

    process.kill()
    await process.wait()

    await until(lambda: not is_alive(pid))


def test_exit_codes_are_told_in_words() -> None:
    assert describe_end(2) == "ended with exit code 2"
    assert describe_end(-15) == "was ended by SIGTERM"


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
