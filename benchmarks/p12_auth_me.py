"""P12: `GET /auth/me` by API key, 32 clients, one API process."""

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack


async def me(connection: Connection, _: int) -> float:
    answer = await connection.request("GET", "/auth/me")
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}")
    return answer.seconds


async def measure(stack: Stack) -> Round:
    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, me, clients=32, seconds=4)
    return round_of(sample, cpu_ms=cpu.per(len(sample.values)))


ROW = Row(
    id="P12",
    what="`GET /auth/me` by API key, 32 clients",
    how="32 keep-alive connections, 4 s, one API process.",
    goals=(Goal("rate", ">=", 1000, "/s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
