"""The platform's own database, for what the API does not tell."""

import json
from typing import Any

import asyncpg

from benchmarks.harness.stack import Stack


async def fetch(stack: Stack, statement: str, *parameters: object) -> list[Any]:
    """Rows of one statement, on a connection of its own."""
    runtime = json.loads((stack.processes.data_dir / "runtime.json").read_text())
    connection = await asyncpg.connect(runtime["database_url"])
    try:
        found: list[Any] = await connection.fetch(statement, *parameters)
        return found
    finally:
        await connection.close()
