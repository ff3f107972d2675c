"""Trigger lag: from the commit of a row to the start of the function that gets it, by polling."""

import asyncio
import json
import random
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg

from benchmarks.harness.load import Sample
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack

ROWS = 30
INTERVAL_SECONDS = 1
_WAIT_SECONDS = 5.0
_CONNECTION = """
    INSERT INTO database_connections
      (id, name, connection_type, host, port, database, username, ssl_mode)
    VALUES ($1, $2, 'postgresql', $3, 5432, 'sinas', 'postgres', 'disable')
"""
_LAGS = """
    SELECT extract(epoch FROM min(e.started_at) - t.at)::float8 AS lag
    FROM trigger_lag t LEFT JOIN executions e ON e.trigger_id = $1
      AND e.input_data->'rows' @> jsonb_build_array(jsonb_build_object('id', t.id))
    GROUP BY t.id, t.at
"""


async def measure(stack: Stack) -> Round:
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    url = runtime["database_url"]
    (host,) = parse_qs(urlsplit(url).query)["host"]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "DROP TABLE IF EXISTS trigger_lag; CREATE TABLE trigger_lag "
            "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now())"
        )
        key = uuid4()
        await connection.execute(_CONNECTION, key, f"lag-{key}", host)
        trigger = await stack.server.call(
            "POST",
            "/api/v1/database-triggers",
            {
                "name": f"lag-{key}",
                "database_connection_id": str(key),
                "table_name": "trigger_lag",
                "poll_column": "id",
                "poll_interval_seconds": INTERVAL_SECONDS,
                "function_namespace": "bench",
                "function_name": "echo",
            },
        )
        await asyncio.sleep(2 * INTERVAL_SECONDS)
        for _ in range(ROWS):
            await connection.execute("INSERT INTO trigger_lag DEFAULT VALUES")
            # At any moment between two looks.
            await asyncio.sleep(random.uniform(0.1, 0.5))
        await asyncio.sleep(_WAIT_SECONDS)
        lags = [row["lag"] for row in await connection.fetch(_LAGS, trigger["id"])]
        await stack.server.call("DELETE", f"/api/v1/database-triggers/{trigger['id']}")
        await connection.execute("DROP TABLE trigger_lag")
    finally:
        await connection.close()
    started = [lag for lag in lags if lag is not None]
    failures = ["not started"] * (ROWS - len(started))
    figures = round_of(Sample(0.0, started, failures)).figures
    del figures["rate"]
    return Round(figures, failures)


ROW = Row(
    id="trigger lag",
    what="commit → start of a trigger's function, polling every second",
    how="30 single-row transactions at random moments; `started_at` of the execution that got the "
    "row minus the row's `now()`, both by PostgreSQL's clock.",
    goals=(Goal("p99", "<=", 2000, "ms"),),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
