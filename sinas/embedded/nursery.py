"""The nursery: a process that imports the platform once and forks its processes.

Importing is nearly all of a process's start, and nearly all of its idle memory: five processes
that each import SQLAlchemy, FastAPI and pydantic take ten seconds of two cores and 100 MB each.
Forked from one that has done it, they start in milliseconds and share those pages. The nursery
runs no event loop, no thread and none of the platform's code; it forks, reaps and reports.

It talks to the supervisor over one socket, a JSON message per packet:
`{"id": 1, "argv": [...], "env": {...}, "stop_signal": 15}` with three file descriptors (standard
input, output, error), answered by `{"id": 1, "pid": 7}`; and `{"pid": 7, "code": 0}` for each
child that ends.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn, TypedDict

from sinas.embedded.processes import after_fork
from sinas.settings import replace_environment

LARGEST_MESSAGE: Final = 262_144
# The command line that `ps` shows lies in memory of a fixed size; the last argument makes room.
PADDING: Final = "." * 120
_MODULES: Final = (
    "sinas.app",
    "sinas.worker",
    "sinas.scheduler",
    "sinas.cdc",
    "sinas.db.migrate",
    "sinas.embedded.lifeline",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
)


class Order(TypedDict):
    """One child to fork."""

    id: int
    argv: list[str]
    env: dict[str, str]
    stop_signal: int


def run_nursery(descriptor: int, command: Callable[[], None]) -> None:
    """Import, then fork what the supervisor orders, until it closes the socket.

    Args:
        descriptor: The inherited socket.
        command: What each child runs: the command line, reading `sys.argv`.
    """
    with socket.socket(fileno=descriptor) as orders:
        for name in _MODULES:
            importlib.import_module(name)
        if threading.active_count() > 1:
            # A thread's locks would be copied without the thread.
            raise RuntimeError(f"an import started threads: {threading.enumerate()}")
        gc.collect()
        # Keeps the collector of every child from writing to, and so copying, these pages.
        gc.freeze()
        with _child_ends() as ends:
            _serve(orders, ends, command)


def _serve(orders: socket.socket, ends: int, command: Callable[[], None]) -> None:
    sources: list[socket.socket | int] = [orders, ends]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if ends in ready:
            os.read(ends, 4096)
            _report_ends(orders)
        if orders in ready:
            message, descriptors, _, _ = socket.recv_fds(orders, LARGEST_MESSAGE, 3)
            if not message:
                return
            order: Order = json.loads(message)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                orders.close()
                _be_born(order, descriptors, parent, command)
            for number in descriptors:
                os.close(number)
            with contextlib.suppress(BrokenPipeError):
                orders.send(json.dumps({"id": order["id"], "pid": pid}).encode())


def _report_ends(orders: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with contextlib.suppress(BrokenPipeError):
            code = os.waitstatus_to_exitcode(status)
            orders.send(json.dumps({"pid": pid, "code": code}).encode())


@contextlib.contextmanager
def _child_ends() -> Iterator[int]:
    """A descriptor that becomes readable when a child has ended."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    yield readable


def _be_born(
    order: Order, descriptors: list[int], parent: int, command: Callable[[], None]
) -> NoReturn:
    """In the child: take the place the order describes, and never return to the nursery."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        die_with_parent = after_fork(signal.Signals(order["stop_signal"]), parent)
        if die_with_parent is not None:
            die_with_parent()
        for target, number in enumerate(descriptors):
            os.dup2(number, target)
            os.close(number)
        replace_environment(order["env"])
        sys.argv = ["sinas", *order["argv"]]
        _show_as([sys.executable, "-m", "sinas", *order["argv"]])
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing of a child may run on in the nursery
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _show_as(argv: list[str]) -> None:
    """Have `ps` show the child's own command line instead of the nursery's (Linux)."""
    # proc(5): fields 48 and 49 of stat; the name before them may hold spaces and parentheses.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if not 0 < start < end:
        return
    text = b"\0".join(os.fsencode(part) for part in argv)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))
