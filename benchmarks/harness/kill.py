"""Killing a part of the platform and seeing it come back."""

import asyncio
import time

import psutil

from benchmarks.harness.stack import Stack

_PATIENCE_SECONDS = 60.0


def kill(stack: Stack, name: str) -> float:
    """SIGKILL to a part; when that was (monotonic clock of answers, seconds)."""
    stack.processes.part(name).kill()
    return time.perf_counter()


async def wait_back(stack: Stack, name: str, old: int) -> None:
    """Wait until a part runs again under another process id and the platform is healthy.

    Raises:
        RuntimeError: It does not come back.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if stack.processes.part(name).pid != old:
                health = await stack.server.call("GET", "/health")
                # A killed worker's lease counts until it runs out; only one may be left.
                if health["function_workers"] == health["agent_workers"] == 1:
                    return
        except (StopIteration, psutil.NoSuchProcess, RuntimeError):
            pass  # between its end and its record, or not healthy yet
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{name} did not come back")
