"""P7: time a turn adds to the model's own first content, one client."""

from benchmarks.harness.http import Connection, Server
from benchmarks.harness.load import Sample, WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, figures_of, main
from benchmarks.harness.stack import Stack
from benchmarks.harness.turns import first_content, new_chat, run_turn

TURNS = 150
ASK = {"model": "words-50", "stream": True, "messages": [{"role": "user", "content": "go"}]}


async def upstream_alone(upstream: Server) -> Sample:
    """The model's own time from a request to the first byte of its body."""

    async def ask(connection: Connection, _: int) -> float:
        answer = await connection.request("POST", "/v1/chat/completions", ASK)
        if answer.status != 200:
            raise WorkFailedError(f"the upstream answered {answer.status}")
        return answer.pieces[0][0] - answer.sent

    return await run_load(upstream, ask, clients=1, each=TURNS, warm_up=5)


async def measure(stack: Stack) -> Round:
    path = await new_chat(stack.server, "words")

    async def turn(connection: Connection, _: int) -> float:
        answer = await run_turn(connection, path)
        return first_content(answer) - answer.sent

    own = await upstream_alone(stack.upstream)
    with CpuMeter(stack.platform) as cpu:
        sample = await run_load(stack.server, turn, clients=1, each=TURNS, warm_up=5)
    figures = figures_of(sample)
    base = own.at(0.5) * 1000
    for share in ("p50", "p95", "p99"):
        figures[share] -= base
    notes = {"upstream_p50_ms": round(base, 3), "cpu_ms": cpu.per(TURNS)}
    return Round(figures, sample.failures + own.failures, notes)


ROW = Row(
    id="P7",
    what="turn of 50 chunks: time added to first content, 1 client",
    how="From the request's first byte to the first event with text, minus the median of the "
    "same from the upstream asked directly; 150 turns in one growing chat.",
    goals=(Goal("p50", "<=", 15, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
