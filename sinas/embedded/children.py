"""Children of the supervisor: log lines, restart with pauses, end."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sinas.embedded.processes import ChildSpec, Launch, Process, kill_group, spawn

GO: Final = b"go\n"
_LONGEST_LINE = 65_536
_FIRST_DELAY = 0.3
_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 30.0


class Child:
    """One child, kept running until it is told to stop.

    Args:
        spec: How to run it.
        on_line: Takes each line of its output.
        on_event: Takes a sentence for each unexpected end.
        on_change: Called after each start and end, to write the state file.
        launch: Starts it.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        on_line: Callable[[str, str], None],
        on_event: Callable[[str, str], None],
        on_change: Callable[[], None],
        launch: Launch = spawn,
    ) -> None:
        """Remember how; `run` starts it."""
        self.spec = spec
        self.failures = 0
        """Unexpected ends so far."""
        self.last_end = ""
        """How it ended last, in words."""
        self.last_line = ""
        """The last line it printed."""
        self._on_line = on_line
        self._on_event = on_event
        self._on_change = on_change
        self._launch = launch
        self._process: Process | None = None
        self._released = not spec.waits
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._failed = asyncio.Condition()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def run(self) -> None:
        """Start it, and start it again with growing pauses, until `stop`."""
        delay = _FIRST_DELAY
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    self.last_end = describe_end(await self.run_once())
                except OSError as error:
                    self.last_end = f"could not be started ({error})"
                if self._stopping.is_set():
                    return
                if time.monotonic() - began > _STEADY_SECONDS:
                    delay = _FIRST_DELAY
                async with self._failed:
                    self.failures += 1
                    self._failed.notify_all()
                self._on_event(
                    self.spec.name, f"{self.last_end}; starting it again in {delay:.1f} s"
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stopping.wait()
                delay = min(delay * 2, _LONGEST_DELAY)
        finally:
            self.kill()
            self._ended.set()

    async def wait_failures(self, count: int) -> None:
        """Return once it has ended unexpectedly `count` times."""
        async with self._failed:
            await self._failed.wait_for(lambda: self.failures >= count)

    def release(self) -> None:
        """Let a waiting child go on; also after a restart."""
        self._released = True
        self._send_go()

    async def stop(self, seconds: float) -> bool:
        """End it: the stop signal, and after `seconds` SIGKILL to its process group.

        Returns:
            Whether it ended by itself.
        """
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, self.spec.stop_signal)
        try:
            async with asyncio.timeout(max(seconds, 0.05)):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
            await self._ended.wait()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to its process group, at once."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            kill_group(process.pid)

    async def run_once(self) -> int:
        """Start it and wait for its end, once.

        Returns:
            Its exit code, negative where a signal ended it.
        """
        process = await self._launch(self.spec)
        self._process = process
        if self._stopping.is_set():  # told while it was being started
            kill_group(process.pid)
        self._on_change()
        if self._released:
            self._send_go()
        try:
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(self._pump(process.stdout)) if process.stdout else None
                code = await process.wait()
                if pump is not None:
                    # A grandchild may hold the pipe open for ever; the last words are here now.
                    await asyncio.wait([pump], timeout=0.3)
                    pump.cancel()
        finally:
            if process.returncode is None:
                kill_group(process.pid)
            self._on_change()
        return code

    def _send_go(self) -> None:
        process = self._process
        # A child that just died is started again by `run`, which gives it its word then.
        if self.spec.waits and process is not None and process.returncode is None:
            process.tell(GO)

    async def _pump(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take_line(line)
            if len(rest) >= _LONGEST_LINE:
                self._take_line(rest)
                rest = b""
        if rest:
            self._take_line(rest)

    def _take_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.last_line = text or self.last_line
        self._on_line(self.spec.name, text)


def describe_end(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_lines(path: Path, count: int = 5) -> list[str]:
    """The last lines of a log file; none if there is no file."""
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
