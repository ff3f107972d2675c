"""What a function gets of a batch: rows as JSON. Pure."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from sinas.kit.json_types import JsonObject, JsonValue


def payload(
    *,
    table: str,
    operation: str,
    poll_column: str | None,
    rows: Sequence[Mapping[str, Any]],
    operations: Sequence[str] | None = None,
    now: datetime,
) -> JsonObject:
    """The input of one execution. `operations` names what happened to each of the rows."""
    given: JsonObject = {
        "table": table,
        "operation": operation,
        "rows": [jsonable(row) for row in rows],
        "poll_column": poll_column,
        "count": len(rows),
        "timestamp": now.isoformat(),
    }
    if operations is not None:
        given["operations"] = list(operations)
    return given


def _storable(text: str) -> str:
    """Without what a `json` column may escape and nothing of ours can keep: NUL, half pairs."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def jsonable(value: Any) -> JsonValue:
    """A driver's value as JSON: dates in ISO form, bytes in hex, what JSON lacks as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable(str(key)): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [jsonable(each) for each in value]
    return _scalar(value)


def _scalar(value: Any) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)
