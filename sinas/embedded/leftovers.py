"""What a killed supervisor left behind, found again by the next one.

The state file names every child by process id and start time, so that a number the system has
given to somebody else since is never taken for ours.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

import psutil

from sinas.embedded.datadir import DataDir, write_private
from sinas.embedded.processes import ChildSpec, kill_group

_GRACE_SECONDS = 3.0


class _Recorded(TypedDict):
    name: str
    pid: int
    started: float
    stop_signal: int


def record(data: DataDir, running: Mapping[int, ChildSpec]) -> None:
    """Write down the running children."""
    entries: list[_Recorded] = []
    for pid, spec in running.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(pid).create_time()
            entries.append(
                {
                    "name": spec.name,
                    "pid": pid,
                    "started": started,
                    "stop_signal": int(spec.stop_signal),
                }
            )
    write_private(data.state_file, entries)


def end_leftovers(data: DataDir) -> list[str] | None:
    """End what a killed supervisor left running. Only for the holder of the lock. Blocks.

    Returns:
        Names of the processes that were still there, or None where the last end was orderly.
    """
    unclean = data.state_file.exists()
    found = dict(_recorded(data.state_file))
    for server in _postmaster(data.postgres):
        found.setdefault(server, ("postgres", 2))
    for process, (_, stop_signal) in found.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(stop_signal)
    _, alive = psutil.wait_procs(list(found), timeout=_GRACE_SECONDS)
    for process in alive:
        kill_group(process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_GRACE_SECONDS)
    return [name for name, _ in found.values()] if unclean or found else None


def _recorded(state_file: Path) -> Iterable[tuple[psutil.Process, tuple[str, int]]]:
    try:
        entries: list[_Recorded] = json.loads(state_file.read_text())
    except (FileNotFoundError, ValueError):
        return
    for entry in entries:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(entry["pid"])
            # The clock may have been set since; a number is not given away again in two seconds.
            if abs(process.create_time() - entry["started"]) < 2 and _runs(process):
                yield process, (entry["name"], entry["stop_signal"])


def _postmaster(cluster: Path) -> Iterable[psutil.Process]:
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        if _runs(process) and process.name() == "postgres" and str(cluster) in process.cmdline():
            yield process
    except (OSError, ValueError, IndexError, psutil.Error):
        return


def _runs(process: psutil.Process) -> bool:
    # A dead process stays in the table until the system's first process has taken note.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
