"""P2: warm sandboxed function, 8 clients, calls per second."""

from benchmarks.harness.calls import echo
from benchmarks.harness.load import run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

CLIENTS = 8


async def measure(stack: Stack) -> Round:
    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, echo, clients=CLIENTS, seconds=4)
    return round_of(sample, cpu_ms=cpu.per(len(sample.values)))


ROW = Row(
    id="P2",
    what="warm sandboxed function, 8 clients, calls per second",
    how="`POST /functions/bench/echo/execute`, from request to result, with its row in "
    "PostgreSQL before and after; 4 s.",
    goals=(Goal("rate", ">=", 250, "/s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
