"""10,000 queued calls: how long they take, and whether each ends once."""

import asyncio
import time

from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack

CALLS = 10_000
BATCH = 1_000
PATIENCE_SECONDS = 500.0


async def measure(stack: Stack) -> Round:
    inputs = [{"x": "hello", "n": number} for number in range(BATCH)]
    path = "/functions/bench/echo/execute/batch"
    began = time.perf_counter()
    made = [
        await stack.server.call("POST", path, {"inputs": inputs}) for _ in range(CALLS // BATCH)
    ]
    queued = time.perf_counter() - began
    left = [each["batch_id"] for each in made]
    completed = 0
    while left:
        if time.perf_counter() - began > PATIENCE_SECONDS:
            raise RuntimeError(f"{len(left)} batches have not ended")
        await asyncio.sleep(0.2)
        batch = await stack.server.call("GET", f"/batches/{left[0]}")
        if batch["completed"] + batch["failed"] + batch["cancelled"] == batch["total"]:
            completed += batch["completed"]
            left.pop(0)
    seconds = time.perf_counter() - began
    figures = {"lost or failed": float(CALLS - completed), "s": seconds, "queueing s": queued}
    return Round(figures | {"rate": CALLS / seconds})


ROW = Row(
    id="Q1",
    what="10,000 queued calls drained",
    how="Ten batches of 1,000 calls of `bench/echo`, accepted one after the other; until every "
    "execution is terminal, asked every 200 ms.",
    goals=(Goal("lost or failed", "=", 0, ""),),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
