"""P8: turns of 50 chunks, 16 clients, turns per second."""

from benchmarks.harness.http import Connection
from benchmarks.harness.load import run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import new_chats, run_turn

CLIENTS = 16


async def measure(stack: Stack) -> Round:
    paths = await new_chats(stack.server, "words", CLIENTS)

    async def turn(connection: Connection, client: int) -> float:
        return (await run_turn(connection, paths[client])).seconds

    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, turn, clients=CLIENTS, seconds=5, warm_up=1)
    return round_of(sample, cpu_ms=cpu.per(len(sample.values)))


ROW = Row(
    id="P8",
    what="turn of 50 chunks, 16 clients, turns per second",
    how="Every client has a chat of its own, which grows; a turn counts when it ends with `done`.",
    goals=(Goal("rate", ">=", 65, "/s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
