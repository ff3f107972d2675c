"""A saved query through HTTP, and through the driver alone, against asyncpg's own `fetch`."""

import json
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

from benchmarks.harness.database import fetch
from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError, median_ms, run_load
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from sinas.databases.base import DatabaseTarget, Limits, Statement
from sinas.databases.json_values import json_rows
from sinas.databases.pools import DatabasePools

SECONDS = 4
ROWS = 100
SQL = (
    "SELECT n, n * 1.5 AS price, 'name ' || n AS name, now() AS at, n % 2 = 0 AS even "
    "FROM generate_series(1, :last::int) AS n"
)
QUERY = "/api/v1/queries/bench/rows"


async def execute(connection: Connection, _number: int) -> float:
    body = {"input": {"last": ROWS}}
    answer = await connection.request("POST", "/queries/bench/rows/execute", body)
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    return answer.seconds


async def prepare(stack: Stack) -> DatabaseTarget:
    """A connection to the server's own database by its socket, which no request could make."""
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    url = make_url(runtime["database_url"])
    target = DatabaseTarget(
        connection_id=uuid4(),
        name=f"bench-{uuid4().hex[:8]}",
        connection_type="postgresql",
        host=str(url.query.get("host") or url.host),
        port=url.port or 5432,
        database=url.database or "sinas",
        username=url.username or "postgres",
        password=url.password,
    )
    await fetch(
        stack,
        "INSERT INTO database_connections (id, name, connection_type, host, port, database, "
        "username) VALUES ($1, $2, 'postgresql', $3, $4, $5, $6)",
        *(target.connection_id, target.name, target.host, target.port),
        *(target.database, target.username),
    )
    held = await stack.server.call("GET", "/api/v1/queries?namespace=bench")
    if held:
        await stack.server.call("DELETE", QUERY)
    query = {
        "namespace": "bench",
        "name": "rows",
        "database_connection_id": str(target.connection_id),
        "operation": "read",
        "sql": SQL,
    }
    await stack.server.call("POST", "/api/v1/queries", query)
    return target


async def _raw_ms(target: DatabaseTarget) -> float:
    connection = await asyncpg.connect(
        host=target.host,
        port=target.port,
        user=target.username,
        database=target.database,
        password=target.password or "",
    )
    try:
        text = SQL.replace(":last", "$1")
        return await median_ms(lambda: connection.fetch(text, ROWS), SECONDS / 2)
    finally:
        await connection.close()


async def _driver_ms(target: DatabaseTarget) -> float:
    pools = DatabasePools()
    statement = Statement(SQL, {"last": ROWS})

    async def work() -> None:
        async with pools.database(target) as database:
            json_rows(await database.read(statement, Limits()))

    try:
        return await median_ms(work, SECONDS / 2)
    finally:
        await pools.aclose()


async def measure(stack: Stack) -> Round:
    target = await prepare(stack)
    with CpuMeter(stack.platform) as cpu:
        alone = await run_load(stack.server, execute, clients=1, seconds=SECONDS)
    many = await run_load(stack.server, execute, clients=16, seconds=SECONDS)
    found = round_of(alone, cpu_ms=cpu.per(len(alone.values)))
    found.figures |= {
        "16 clients /s": many.rate,
        "driver p50": await _driver_ms(target),
        "asyncpg p50": await _raw_ms(target),
    }
    found.failures += many.failures
    return found


ROW = Row(
    id="D1",
    what="saved query, 100 rows, 1 client",
    how="100 rows of five columns by `POST /queries/…/execute`, 4 s by 1 and by 16 clients; then the "
    "same SQL by the driver alone (read-only transaction, cursor, values made JSON) and by "
    "asyncpg's `fetch` on one connection.",
    goals=(Goal("p50", "<=", 15, "ms"),),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
