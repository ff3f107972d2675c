"""F2: the list of 10,000 files in one page."""

import json
from typing import Any

import asyncpg

from benchmarks.harness.load import Sample
from benchmarks.harness.row import Goal, Round, Row, figures_of, main
from benchmarks.harness.stack import Stack

FILES = 10_000
ROUNDS = 10
LIST = "/files/bench/list"
_FILL = """
WITH b AS (INSERT INTO blobs (id) SELECT gen_random_uuid() FROM generate_series(1, $1)
           RETURNING id),
     f AS (INSERT INTO files (id, user_id, collection_id, name, content_type, visibility,
                              file_metadata)
           SELECT b.id, c.user_id, c.id, 'report-' || b.id || '.pdf', 'application/pdf', 'shared',
                  '{"year": 2026, "tags": ["a", "b"]}'
           FROM b, collections c WHERE c.namespace = 'bench' AND c.name = 'list'
           RETURNING id, user_id)
INSERT INTO file_versions (id, file_id, version_number, blob_id, content_type, size_bytes,
                           hash_sha256, uploaded_by)
SELECT gen_random_uuid(), id, 1, id, 'application/pdf', 1, repeat('0', 64), user_id FROM f
"""


async def prepare(stack: Stack, connection: Any) -> None:
    """The collection and its files, unless they are there; past the API: no bytes are read."""
    found = await stack.server.call("GET", "/api/v1/collections?namespace=bench")
    if any(one["name"] == "list" for one in found):
        return
    place = {"namespace": "bench", "name": "list"}
    await stack.server.call("POST", "/api/v1/collections", place)
    await connection.execute(_FILL, FILES)
    await connection.execute("VACUUM ANALYZE files, file_versions")


async def measure(stack: Stack) -> Round:
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    connection = await asyncpg.connect(runtime["database_url"])
    try:
        await prepare(stack, connection)
    finally:
        await connection.close()
    figures: dict[str, float] = {}
    failures = []
    client = await stack.server.connect()
    for name, query, wanted in (("", "", FILES), ("100 of them ", "?limit=100&skip=5000", 100)):
        sample = Sample()
        for _ in range(ROUNDS):
            answer = await client.request("GET", f"{LIST}{query}")
            if answer.status != 200 or len(answer.json()) != wanted:
                sample.failures.append(f"status {answer.status}, {len(answer.body)} bytes")
                continue
            sample.values.append(answer.seconds)
            sample.seconds += answer.seconds
        figures |= {f"{name}{key}": value for key, value in figures_of(sample).items()}
        failures += sample.failures
    client.close()
    return Round(figures, failures)


ROW = Row(
    id="F2",
    what="list of 10,000 files in one page",
    how="One client over HTTP, one page with every file and its version, ten times; then a page "
    "of 100 from the middle.",
    goals=(Goal("p50", "<=", 1000, "ms"), Goal("100 of them p50", "<=", 50, "ms")),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
