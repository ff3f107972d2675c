"""The platform's processes: which part each belongs to, its memory and its CPU time."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PARTS = ("supervisor", "api", "functions", "agents", "scheduler", "cdc", "postgres", "redis")


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB. RSS counts pages that processes share once for each; PSS counts them once in all."""

    rss: float
    pss: float

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss + other.rss, self.pss + other.pss)


class Platform:
    """The processes of one `sinas up`, found by its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def supervisor(self) -> psutil.Process:
        runtime = json.loads((self.data_dir / "runtime.json").read_text())
        return psutil.Process(runtime["pid"])

    def part(self, name: str) -> psutil.Process:
        """The process a part began as; it may have children."""
        if name == "supervisor":
            return self.supervisor()
        recorded = json.loads((self.data_dir / "processes.json").read_text())
        return psutil.Process(next(entry["pid"] for entry in recorded if entry["name"] == name))

    def all(self, name: str) -> list[psutil.Process]:
        """The processes of a part, children included (PostgreSQL has one per connection).

        The process that the others were forked from counts as the supervisor's.
        """
        first = self.part(name)
        if name != "supervisor":
            return [first, *first.children(recursive=True)]
        parts = {self.part(other).pid for other in PARTS if other != "supervisor"}
        return [first, *(child for child in first.children() if child.pid not in parts)]

    def memory(self, name: str) -> Memory:
        total = Memory(0.0, 0.0)
        for process in self.all(name):
            try:
                full = process.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            total += Memory(full.rss / 2**20, full.pss / 2**20)
        return total

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each part so far, ended children of PostgreSQL included."""
        return {name: sum(map(_cpu_seconds, self.all(name))) for name in PARTS}


class CpuMeter:
    """CPU seconds per part between `__enter__` and `__exit__`; sandboxes are not in it."""

    def __init__(self, platform: Platform | None) -> None:
        self._platform = platform
        self._before: dict[str, float] = {}
        self._began = 0.0
        self.used: dict[str, float] = {}
        self.seconds = 0.0

    def __enter__(self) -> "CpuMeter":
        self._began = time.monotonic()
        if self._platform is not None:
            self._before = self._platform.cpu_seconds() | {"load": _own_seconds()}
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        if self._platform is not None:
            after = self._platform.cpu_seconds() | {"load": _own_seconds()}
            self.used = {name: after[name] - self._before[name] for name in after}

    def per(self, count: int) -> dict[str, float]:
        """Milliseconds of CPU per request and part."""
        return {name: round(used * 1000 / max(count, 1), 2) for name, used in self.used.items()}


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _own_seconds() -> float:
    return _cpu_seconds(psutil.Process())
