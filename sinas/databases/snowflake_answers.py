"""What Snowflake answers: the kind of a statement, rows, and errors made ours."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from snowflake.connector import errors

# The one thing that is taken from inside the connector: its describe says nothing of the kind.
from snowflake.connector._internal.api_client.client_api import async_core_driver

from sinas.databases.base import (
    DatabaseError,
    DatabaseTarget,
    Limits,
    Result,
    StatementError,
    UnreachableError,
)
from sinas.databases.snowflake_values import Bound, opened_json
from sinas.databases.told import MAX_RESULT_BYTES, out_of_reach, timed_out, too_large

_BATCH_ROWS: Final = 1001
_HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/snowflake"}
_EXPIRED: Final = "390112"
# Past the time limit of the statement, or of its warehouse.
_STOPPED: Final = 630
_NUMBERED: Final = re.compile(r"(?:\d{6} \(\w{5}\): )+")
_REFUSED: Final = (
    errors.ProgrammingError,
    errors.IntegrityError,
    errors.DataError,
    errors.NotSupportedError,
    errors.InterfaceError,
)


async def statement_kind(session: Any, sql: str, values: Sequence[Bound]) -> int:
    """The number by which the server knows this kind of statement, which is not run.

    Raises:
        snowflake.connector.errors.Error: The server does not take it.
    """
    answer = await _described(session, sql, values)
    if answer.get("code") == _EXPIRED:
        # The connector renews the session with the next statement of its own.
        await session.cursor().execute("SELECT 1")
        answer = await _described(session, sql, values)
    data = answer.get("data") or {}
    if not answer.get("success"):
        code = str(answer.get("code"))
        raise errors.ProgrammingError(
            msg=str(answer.get("message")), errno=int(code) if code.isdigit() else -1
        )
    return int(data.get("statementTypeId") or 0)


async def _described(session: Any, sql: str, values: Sequence[Bound]) -> dict[str, Any]:
    body: dict[str, Any] = {"sqlText": sql, "asyncExec": False, "describeOnly": True}
    if values:
        body["bindings"] = {
            str(place): {"type": kind, "value": text}
            for place, (kind, text) in enumerate(values, start=1)
        }
    response = await async_core_driver.connection_send_http(
        conn_handle=session.conn_handle,
        method="POST",
        url=f"/queries/v1/query-request?requestId={uuid4()}",
        headers=_HEADERS,
        body=json.dumps(body).encode(),
    )
    try:
        answer = json.loads(response.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise errors.OperationalError(msg=f"the answer has the status {response.status_code}")
    return answer


async def run(session: Any, sql: str, values: Sequence[Bound], limits: Limits) -> Any:
    """The cursor of a statement that has been run.

    Raises:
        snowflake.connector.errors.Error: The server refused or stopped it.
    """
    cursor = session.cursor()
    seconds = max(1, math.ceil(limits.seconds))
    await cursor.execute(
        sql, list(values) or None, _statement_params={"STATEMENT_TIMEOUT_IN_SECONDS": seconds}
    )
    return cursor


async def fetched(cursor: Any, limits: Limits, affected: int | None = None) -> Result:
    """Up to the limit's rows, in batches.

    Raises:
        StatementError: They are too large for memory.
    """
    described = cursor.description or []
    codes = [each.type_code for each in described]
    rows: list[tuple[Any, ...]] = []
    size = 0
    while len(rows) <= limits.rows:
        batch = await cursor.fetchmany(min(_BATCH_ROWS, limits.rows + 1 - len(rows)))
        if not batch:
            break
        size += sum(_size(value) for row in batch for value in row)
        if size > MAX_RESULT_BYTES:
            raise too_large()
        rows += [opened_json(codes, row) for row in batch]
    return Result(
        columns=tuple(each.name for each in described),
        rows=rows[: limits.rows],
        affected=affected,
        is_cut=len(rows) > limits.rows,
    )


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | bytearray) else 8


def translated(error: errors.Error, target: DatabaseTarget, limits: Limits) -> DatabaseError:
    """The connector's error as ours."""
    if error.errno == _STOPPED:
        return timed_out(limits)
    told = _NUMBERED.sub("", str(error.raw_msg or ""), count=1).strip() or type(error).__name__
    return (
        StatementError(told) if is_refusal(error) else UnreachableError(out_of_reach(target, told))
    )


def is_refusal(error: BaseException) -> bool:
    """Whether it is about the statement, and the session is as good as before."""
    if isinstance(error, _REFUSED):
        # Numbers of 390… are about the session and its login.
        return not 390_000 <= (error.errno or 0) < 391_000
    return isinstance(error, StatementError)
