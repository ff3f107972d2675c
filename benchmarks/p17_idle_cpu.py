"""P17: CPU of an idle platform."""

import asyncio

from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack

SECONDS = 20
CORES = 2


async def measure(stack: Stack) -> Round:
    with CpuMeter(stack.processes) as cpu:
        await asyncio.sleep(SECONDS)
    used = {name: seconds for name, seconds in cpu.used.items() if name != "load"}
    percent = {name: 100 * seconds / (cpu.seconds * CORES) for name, seconds in used.items()}
    notes: dict[str, object] = {name: round(value, 2) for name, value in percent.items()}
    return Round({"% of 2 cores": sum(percent.values())}, notes=notes)


ROW = Row(
    id="P17",
    what="idle CPU of the stack",
    how="User and system time of all processes over 20 s without requests, sandboxes apart.",
    goals=(Goal("% of 2 cores", "<=", 1, "%"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
