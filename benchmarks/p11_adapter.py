"""P11: time the OpenAI adapter adds to a provider's model, whole and streamed, one client."""

from typing import Any

from benchmarks.harness.http import Connection, Server
from benchmarks.harness.load import Sample, WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, figures_of, main
from benchmarks.harness.stack import Stack

REQUESTS = 200
_MESSAGES = [{"role": "user", "content": "go"}]
_ADAPTER = "/adapters/openai/v1/chat/completions"


async def ask(server: Server, path: str, model: str, *, stream: bool) -> Sample:
    """Seconds from a request's first byte to the last of its answer."""
    body: dict[str, Any] = {"model": model, "messages": _MESSAGES, "stream": stream}
    mark = b"[DONE]" if stream else b'"choices"'

    async def request(connection: Connection, _: int) -> float:
        answer = await connection.request("POST", path, body)
        if answer.status != 200 or mark not in answer.body:
            raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
        return answer.seconds

    return await run_load(server, request, clients=1, each=REQUESTS, warm_up=10)


async def measure(stack: Stack) -> Round:
    figures: dict[str, float] = {}
    failures: list[str] = []
    notes: dict[str, object] = {}
    for stream, prefix in ((False, ""), (True, "streamed_")):
        own = await ask(stack.upstream, "/v1/chat/completions", "words-50", stream=stream)
        with CpuMeter(stack.platform) as cpu:
            sample = await ask(stack.server, _ADAPTER, "bench/words-50", stream=stream)
        base = own.at(0.5) * 1000
        found = figures_of(sample)
        figures |= {f"{prefix}{name}": found[name] - base for name in ("p50", "p95", "p99")}
        failures += own.failures + sample.failures
        if not stream:
            notes["cpu_ms"] = cpu.per(REQUESTS)
    return Round(figures, failures, notes)


ROW = Row(
    id="P11",
    what="adapter, model of a provider, 50 words: time added to the upstream, 1 client",
    how="From the request's first byte to the answer's last one, minus the median of the same "
    "from the upstream asked directly; 200 whole answers, then 200 streams of 50 chunks.",
    goals=(Goal("p50", "<=", 6, "ms"), Goal("streamed_p50", "<=", 8, "ms")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
