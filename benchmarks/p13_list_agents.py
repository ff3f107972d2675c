"""P13: a list of 50 agents, 32 clients."""

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

AGENTS = 50
LIST = f"/api/v1/agents?limit={AGENTS}"


async def listed(connection: Connection, _: int) -> float:
    answer = await connection.request("GET", LIST)
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}")
    return answer.seconds


async def prepare(stack: Stack) -> None:
    """As many agents as the list takes, with the fields that agents in use have."""
    known = await stack.server.call("GET", LIST)
    for number in range(len(known), AGENTS):
        agent = {
            "namespace": "listed",
            "name": f"agent-{number}",
            "description": "One of many agents of a team.",
            "system_prompt": "You answer questions about orders. " * 20,
            "enabled_functions": ["bench/echo", "bench/other"],
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
        }
        await stack.server.call("POST", "/api/v1/agents", agent)


async def measure(stack: Stack) -> Round:
    await prepare(stack)
    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, listed, clients=32, seconds=4)
    return round_of(sample, cpu_ms=cpu.per(len(sample.values)))


ROW = Row(
    id="P13",
    what="list of 50 agents, 32 clients",
    how="`GET /api/v1/agents?limit=50` by API key, 32 keep-alive connections, 4 s.",
    goals=(Goal("rate", ">=", 300, "/s"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
