"""One process: what to run, how to start it, how to end it with all it started."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sinas.embedded.account import Account

_PR_SET_PDEATHSIG = 1
_LARGEST_LOG = 8_388_608
# PyDLL keeps the GIL: between fork and exec there is no other thread to hand it to.
_libc = ctypes.PyDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    log: Path | None = None
    """Where its output goes; None shows it line by line."""
    waits: bool = False
    """It imports its modules and then waits for the line `go` on standard input."""


class Process(Protocol):
    """A running process, started here or elsewhere on our behalf."""

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        ...

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """Its output, unless that goes to a file."""
        ...

    def tell(self, line: bytes) -> None:
        """Write to its standard input; nothing happens when it no longer reads."""
        ...

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...


Launch = Callable[[ChildSpec], Awaitable[Process]]


class _Spawned:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._process.stdout

    def tell(self, line: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(line)

    async def wait(self) -> int:
        return await self._process.wait()


async def spawn(spec: ChildSpec) -> Process:
    """Start a program.

    Raises:
        OSError: It is not there, or the system refuses.
    """
    with _log_target(spec.log) as target:
        process = await asyncio.create_subprocess_exec(
            *spec.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if spec.log is None else target,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(spec.env),
            cwd=spec.cwd,
            # A group of its own: the terminal's Ctrl-C reaches the supervisor alone, and what
            # the child starts can be ended with it.
            process_group=0,
            user=None if spec.account is None else spec.account.uid,
            group=None if spec.account is None else spec.account.gid,
            extra_groups=None if spec.account is None else [],
            preexec_fn=after_fork(spec.stop_signal, os.getpid()),
        )
    return _Spawned(process)


def kill_group(pid: int) -> None:
    """SIGKILL to the process group of a child; no error if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def _log_target(path: Path | None) -> Iterator[int | None]:
    if path is None:
        yield None
        return
    too_large = path.exists() and path.stat().st_size > _LARGEST_LOG
    with path.open("wb" if too_large else "ab") as file:
        yield file.fileno()


def after_fork(death_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """For the child to call: the kernel signals it when its parent dies, even by SIGKILL (Linux)."""
    libc = _libc
    if libc is None:
        return None

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before the call above took effect.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return die_with_parent
