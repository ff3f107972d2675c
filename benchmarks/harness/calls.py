"""Function calls over HTTP, as the rows measure them."""

from typing import Any

from benchmarks.harness.http import Connection
from benchmarks.harness.load import WorkFailedError

ECHO = "/functions/bench/echo/execute"
SLEEP = "/functions/bench/sleep/execute"
_GIVEN = {"x": "hello", "n": 3}


async def echo(connection: Connection, _: int) -> float:
    """One waiting call of `bench/echo`; its time in seconds.

    Raises:
        WorkFailedError: It did not return what it was given.
    """
    answer = await connection.request("POST", ECHO, {"input": _GIVEN})
    if answer.status != 200:
        raise WorkFailedError(f"status {answer.status}: {answer.body[:200]!r}")
    told: dict[str, Any] = answer.json()
    if told["status"] != "success" or told["result"] != _GIVEN:
        raise WorkFailedError(f"the call ended with {told['status']}: {told['error']}")
    return answer.seconds
