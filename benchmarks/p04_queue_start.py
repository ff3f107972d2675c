"""P4: from a call's acceptance to its start by an idle worker."""

import asyncio
from uuid import UUID

from benchmarks.harness.calls import ECHO
from benchmarks.harness.database import fetch
from benchmarks.harness.load import Sample
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

CALLS = 100
PAUSE_SECONDS = 0.02
_TIMES = """
    SELECT extract(epoch FROM started_at - created_at)::float8 AS waited, status
    FROM executions WHERE id = ANY($1::uuid[])
"""


async def measure(stack: Stack) -> Round:
    connection = await stack.server.connect()
    ids: list[UUID] = []
    for _ in range(CALLS):
        answer = await connection.request("POST", f"{ECHO}/async", {"input": {"x": 1}})
        ids.append(UUID(answer.json()["execution_id"]))
        # The worker must be idle again: this row is about waking one, not about a line.
        await asyncio.sleep(PAUSE_SECONDS)
    connection.close()
    await asyncio.sleep(0.5)
    rows = await fetch(stack, _TIMES, ids)
    done = [row["waited"] for row in rows if row["status"] == "COMPLETED"]
    failures = ["not completed half a second later"] * (CALLS - len(done))
    figures = round_of(Sample(0.0, done, failures)).figures
    del figures["rate"]
    return Round(figures, failures)


ROW = Row(
    id="P4",
    what="enqueue → start, idle worker",
    how="`started_at - created_at` of 100 spaced `execute/async` calls, both by PostgreSQL's "
    "clock: from the start of the statement that stores the call (its commit and the push to "
    "Redis included) to the worker's claim.",
    goals=(Goal("p50", "<=", 5, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
