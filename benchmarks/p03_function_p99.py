"""P3: warm sandboxed function, 16 clients, p99."""

from benchmarks.harness.calls import echo
from benchmarks.harness.load import run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

CLIENTS = 16


async def measure(stack: Stack) -> Round:
    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, echo, clients=CLIENTS, seconds=4)
    return round_of(sample, cpu_ms=cpu.per(len(sample.values)))


ROW = Row(
    id="P3",
    what="warm sandboxed function, 16 clients, p99",
    how="`POST /functions/bench/echo/execute`, from request to result, with its row in "
    "PostgreSQL before and after; 4 s.",
    goals=(Goal("p99", "<=", 120, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
