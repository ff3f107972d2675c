"""P19: the function worker is killed while calls run."""

import asyncio
import time

from benchmarks.harness.calls import SLEEP
from benchmarks.harness.kill import kill, wait_back
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack

CALLS = 4
PATIENCE_SECONDS = 60.0
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


async def _until(stack: Stack, ids: list[str], states: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    left = set(ids)
    while left:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(left)} calls did not reach {sorted(states)}")
        for each in tuple(left):
            row = await stack.server.call("GET", f"/executions/{each}")
            if row["status"] in states:
                left.discard(each)
        await asyncio.sleep(0.05)


async def measure(stack: Stack) -> Round:
    body = {"input": {"seconds": 120}}
    started = [await stack.server.call("POST", f"{SLEEP}/async", body) for _ in range(CALLS)]
    ids = [each["execution_id"] for each in started]
    await _until(stack, ids, {"RUNNING"})
    old = stack.processes.part("functions").pid
    killed = kill(stack, "functions")
    await _until(stack, ids, TERMINAL)
    seconds = time.perf_counter() - killed
    await wait_back(stack, "functions", old)
    return Round({"s": seconds})


ROW = Row(
    id="P19",
    what="function worker killed → its calls terminal",
    how="Four calls that would sleep for two minutes; SIGKILL; until all four executions are "
    "terminal, asked every 50 ms.",
    goals=(Goal("s", "<=", 10, "s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
