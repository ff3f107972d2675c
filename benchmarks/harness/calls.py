"""Function calls over HTTP, as the rows measure them."""

from typing import Any

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError

ECHO = "/functions/bench/echo/execute"
SHARED_ECHO = "/functions/bench/shared_echo/execute"
SLEEP = "/functions/bench/sleep/execute"
_GIVEN = {"x": "hello", "n": 3}


async def echo(connection: Connection, _: int) -> float:
    """One waiting call of `bench/echo`; its time in seconds.

    Raises:
        WorkFailedError: It did not return what it was given.
    """
    return await _call(connection, ECHO)


async def shared_echo(connection: Connection, _: int) -> float:
    """As `echo`, in the shared pool."""
    return await _call(connection, SHARED_ECHO)


async def _call(connection: Connection, path: str) -> float:
    answer = await connection.request("POST", path, {"input": _GIVEN})
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    told: dict[str, Any] = answer.json()
    if told["status"] != "success" or told["result"] != _GIVEN:
        raise WorkFailedError(f"the call ended with {told['status']}: {told['error']}")
    return answer.seconds
