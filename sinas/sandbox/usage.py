"""What sandboxes take of their machine: two looks at each, a moment apart."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import psutil

from sinas.sandbox.base import Usage

_BETWEEN_SECONDS = 0.5
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: CPU time since the sandbox began, memory now and at most."""

    cpu_seconds: float
    memory_mb: float
    limit_mb: float


class Measurable(Protocol):
    """What can be looked at."""

    @property
    def name(self) -> str:
        """Names it in the answer."""
        ...

    def sample(self) -> Sample | None:
        """One look; None when it is gone. Blocks."""
        ...


async def measure(members: Iterable[Measurable]) -> dict[str, Usage]:
    """CPU and memory of each, by name, without those that end meanwhile."""
    chosen = list(members)
    before = await _look(chosen)
    await asyncio.sleep(_BETWEEN_SECONDS)
    after = await _look(chosen)
    found = {}
    for name in before.keys() & after.keys():
        (began, first), (ended, second) = before[name], after[name]
        share = (second.cpu_seconds - first.cpu_seconds) / (ended - began)
        found[name] = Usage(
            cpu_percent=max(0.0, round(share * 100, 1)),
            memory_used_mb=round(second.memory_mb, 1),
            memory_limit_mb=round(second.limit_mb, 1),
        )
    return found


async def _look(members: list[Measurable]) -> dict[str, tuple[float, Sample]]:
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(asyncio.to_thread(_timed, member)) for member in members]
    return {
        member.name: (at, sample)
        for member, look in zip(members, looks, strict=True)
        for at, sample in [look.result()]
        if sample is not None
    }


def _timed(member: Measurable) -> tuple[float, Sample | None]:
    sample = member.sample()
    return time.monotonic(), sample


def process_tree(pid: int, limit_mb: float) -> Sample | None:
    """A process and all below it; None when it is gone. Blocks."""
    try:
        root = psutil.Process(pid)
        everyone = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    cpu = memory = 0.0
    for process in everyone:
        try:
            times = process.cpu_times()
            memory += process.memory_info().rss / _MIB
        except psutil.NoSuchProcess:
            continue
        cpu += times.user + times.system + times.children_user + times.children_system
    return Sample(cpu, memory, limit_mb)
