"""A warm call in the shared pool, 1 and 8 clients."""

from benchmarks.harness.calls import shared_echo
from benchmarks.harness.load import run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack


async def measure(stack: Stack) -> Round:
    with CpuMeter(stack.platform) as cpu:
        alone = await run_load(stack.server, shared_echo, clients=1, seconds=4, warm_up=20)
    many = await run_load(stack.server, shared_echo, clients=8, seconds=4)
    found = round_of(alone, cpu_ms=cpu.per(len(alone.values)))
    found.figures["8 clients /s"] = many.rate
    found.failures += many.failures
    return found


ROW = Row(
    id="S1",
    what="warm shared-pool function, 1 client",
    how="As P1, of a function with `shared_pool`; then 8 clients for 4 s.",
    goals=(Goal("p50", "<=", 10, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
