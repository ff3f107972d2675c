"""P14: reading and writing states, 32 clients."""

from itertools import count

from benchmarks.harness.http import Answer, Connection
from benchmarks.harness.load import WorkFailedError, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

CLIENTS = 32
SECONDS = 4
STORE = "/api/v1/stores/bench/states"
STATES = "/stores/bench/states/states"
_numbers = count()


def _value(number: int) -> dict[str, object]:
    return {"theme": "dark", "size": number, "tags": ["a", "b"], "note": "x" * 100}


def _done(answer: Answer) -> float:
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    return answer.seconds


async def read(connection: Connection, number: int) -> float:
    return _done(await connection.request("GET", f"{STATES}/client-{number}"))


async def change(connection: Connection, number: int) -> float:
    body = {"value": _value(next(_numbers))}
    return _done(await connection.request("PUT", f"{STATES}/client-{number}", body))


async def create(connection: Connection, number: int) -> float:
    body = {"key": f"new-{number}-{next(_numbers)}", "value": _value(number)}
    return _done(await connection.request("POST", STATES, body))


async def prepare(stack: Stack) -> None:
    """An empty store with one state for each client."""
    stores = await stack.server.call("GET", "/api/v1/stores?namespace=bench")
    if any(store["name"] == "states" for store in stores):
        await stack.server.call("DELETE", STORE)
    store = {"namespace": "bench", "name": "states"}
    await stack.server.call("POST", "/api/v1/stores", store)
    for number in range(CLIENTS):
        body = {"key": f"client-{number}", "value": _value(number)}
        await stack.server.call("POST", STATES, body)


async def measure(stack: Stack) -> Round:
    await prepare(stack)
    with CpuMeter(stack.platform) as cpu:
        reads = await run_load(stack.server, read, clients=CLIENTS, seconds=SECONDS)
    changes = await run_load(stack.server, change, clients=CLIENTS, seconds=SECONDS)
    creates = await run_load(stack.server, create, clients=CLIENTS, seconds=SECONDS)
    found = round_of(reads, cpu_ms=cpu.per(len(reads.values)))
    found.figures |= {
        "write /s": changes.rate,
        "write p99": changes.at(0.99) * 1000,
        "create /s": creates.rate,
    }
    found.failures += changes.failures + creates.failures
    return found


ROW = Row(
    id="P14",
    what="state read, 32 clients",
    how="32 keep-alive connections by API key, one API process, 4 s each: reading a state by its "
    "key, changing its value, creating new ones. Every client has a key of its own.",
    goals=(
        Goal("rate", ">=", 700, "/s"),
        Goal("write /s", ">=", 350, "/s"),
        Goal("create /s", ">=", 350, "/s"),
    ),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
