"""P10: a turn with one function call, one client, whole time."""

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chat, run_turn

TURNS = 60


async def measure(stack: Stack) -> Round:
    path = await new_chat(stack.server, "tool")

    async def turn(connection: Connection, _: int) -> float:
        answer = await run_turn(connection, path)
        ended = [data for _, name, data in answer.events() if name == "tool_end"]
        if len(ended) != 1 or "hello" not in ended[0]:
            raise WorkFailedError(f"the call's result is not there: {ended}")
        return answer.seconds

    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, turn, clients=1, each=TURNS, warm_up=3)
    return round_of(sample, cpu_ms=cpu.per(TURNS))


ROW = Row(
    id="P10",
    what="turn with one function call, 1 client, total",
    how="Two model rounds, one call of a sandboxed function, 50 chunks of answer; from the "
    "request to the end of the stream; 60 turns in one growing chat.",
    goals=(Goal("p50", "<=", 50, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
