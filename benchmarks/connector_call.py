"""A connector's operation through HTTP, and by the guarded client alone, against raw httpx."""

import httpx

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, median_ms, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.kit.addresses import parse_networks

SECONDS = 4
CONNECTOR = "/api/v1/connectors/bench/upstream"


async def call(connection: Connection, _number: int) -> float:
    answer = await connection.request("POST", f"{CONNECTOR}/test/models", {"parameters": {}})
    if answer.status != 200 or answer.json()["status_code"] != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    return answer.seconds


async def prepare(stack: Stack) -> str:
    """The connector, with a secret, as connectors in use have; the address it calls."""
    base_url = f"http://{stack.upstream.host}:{stack.upstream.port}"
    secret = {"name": "BENCH_UPSTREAM", "value": "sk-bench-connector"}
    await stack.server.call("POST", "/api/v1/secrets", secret)
    if await stack.server.call("GET", "/api/v1/connectors?namespace=bench"):
        await stack.server.call("DELETE", CONNECTOR)
    connector = {
        "namespace": "bench",
        "name": "upstream",
        "base_url": base_url,
        "auth": {"type": "bearer", "secret": "BENCH_UPSTREAM"},
        "operations": [{"name": "models", "method": "GET", "path": "/v1/models"}],
    }
    await stack.server.call("POST", "/api/v1/connectors", connector)
    return f"{base_url}/v1/models"


async def _raw_ms(url: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await median_ms(lambda: client.get(url), SECONDS / 2)


async def _guarded_ms(url: str) -> float:
    client = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")))
    try:
        return await median_ms(lambda: client.request("GET", url), SECONDS / 2)
    finally:
        await client.aclose()


async def measure(stack: Stack) -> Round:
    url = await prepare(stack)
    with CpuMeter(stack.platform) as cpu:
        alone = await run_load(stack.server, call, clients=1, seconds=SECONDS)
    many = await run_load(stack.server, call, clients=16, seconds=SECONDS)
    found = round_of(alone, cpu_ms=cpu.per(len(alone.values)))
    found.figures |= {
        "16 clients /s": many.rate,
        "guarded p50": await _guarded_ms(url),
        "httpx p50": await _raw_ms(url),
    }
    found.failures += many.failures
    return found


ROW = Row(
    id="C1",
    what="connector call with a secret, 1 client",
    how="An operation with a bearer secret by `POST …/test/…`, 4 s by 1 and by 16 clients; then the "
    "same request by the guarded client alone and by httpx, both with kept connections.",
    goals=(Goal("p50", "<=", 15, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
