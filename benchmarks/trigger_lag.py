"""Trigger lag: from the commit of a row to the start of the function that gets it."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg

from benchmarks.harness.load import Sample
from benchmarks.harness.row import Goal, Round, Row, main, round_of
from benchmarks.harness.stack import Stack
from tests.fixtures.servers import Run, start

ROWS = 30
INTERVAL_SECONDS = 1
MODES = {"poll": "", "replication": "replication "}
_WAIT_SECONDS = 5.0
_TABLE = (
    "DROP TABLE IF EXISTS trigger_lag; CREATE TABLE trigger_lag "
    "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now())"
)
_CONNECTION = """
    INSERT INTO database_connections
      (id, name, connection_type, host, port, database, username, ssl_mode)
    VALUES ($1, $2, 'postgresql', $3, 5432, 'sinas', 'postgres', 'disable')
"""
_STARTS = """
    SELECT (row->>'id')::int AS id, extract(epoch FROM min(e.started_at))::float8 AS at
    FROM executions e, jsonb_array_elements(e.input_data->'rows') row
    WHERE e.trigger_id = $1 AND e.started_at IS NOT NULL GROUP BY 1
"""


async def measure(stack: Stack) -> Round:
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    own = await asyncpg.connect(runtime["database_url"])
    figures: dict[str, float] = {}
    failures: list[str] = []
    try:
        with _watched_server() as url:
            watched = await asyncpg.connect(url)
            try:
                await watched.execute(_TABLE)
                connection_id = await _connection(own, url)
                for mode, prefix in MODES.items():
                    lags = await _lags(stack, own, watched, connection_id, mode)
                    missing = ["not started"] * (ROWS - len(lags))
                    found = round_of(Sample(0.0, lags, missing)).figures
                    figures |= {f"{prefix}{key}": found[key] for key in ("p50", "p95", "p99")}
                    failures += missing
            finally:
                await watched.close()
    finally:
        await own.close()
    return Round(figures, failures)


@contextmanager
def _watched_server() -> Iterator[str]:
    """A server whose log can be decoded."""
    run = Run.begin()
    try:
        start(run, ["logical"])
        yield str(json.loads((Path(run.root) / "urls.json").read_text())["logical"])
    finally:
        run.end()


async def _connection(own: asyncpg.Connection, url: str) -> UUID:
    (host,) = parse_qs(urlsplit(url).query)["host"]
    key = uuid4()
    await own.execute(_CONNECTION, key, f"lag-{key}", host)
    return key


async def _lags(
    stack: Stack,
    own: asyncpg.Connection,
    watched: asyncpg.Connection,
    connection_id: UUID,
    mode: str,
) -> list[float]:
    """Seconds, of the rows that were started."""
    body: dict[str, Any] = {
        "name": f"lag-{mode}-{connection_id}",
        "database_connection_id": str(connection_id),
        "table_name": "trigger_lag",
        "mode": mode,
        "poll_column": "id",
        "poll_interval_seconds": INTERVAL_SECONDS,
        "function_namespace": "bench",
        "function_name": "echo",
    }
    trigger = await stack.server.call("POST", "/api/v1/database-triggers", body)
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    committed: dict[int, float] = {}
    for _ in range(ROWS):
        row = await watched.fetchrow(
            "INSERT INTO trigger_lag DEFAULT VALUES RETURNING id, extract(epoch FROM at)::float8 at"
        )
        committed[row["id"]] = row["at"]
        # At any moment between two looks.
        await asyncio.sleep(random.uniform(0.1, 0.5))
    await asyncio.sleep(_WAIT_SECONDS)
    started = {row["id"]: row["at"] for row in await own.fetch(_STARTS, trigger["id"])}
    await stack.server.call("DELETE", f"/api/v1/database-triggers/{trigger['id']}")
    return [started[each] - at for each, at in committed.items() if each in started]


ROW = Row(
    id="trigger lag",
    what="commit → start of a trigger's function, looking every second",
    how="30 single-row transactions at random moments in another server, by polling and by "
    "replication; `started_at` of the execution that got the row minus the row's `now()`, both by "
    "PostgreSQL's clock.",
    goals=(Goal("p99", "<=", 2000, "ms"), Goal("replication p99", "<=", 2000, "ms")),
    measure=measure,
    rounds=1,
)

if __name__ == "__main__":
    main(ROW)
