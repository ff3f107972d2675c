"""What a function gets of a batch: rows as JSON. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sinas.databases.json_values import to_json
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
        "rows": [{name: jsonable(value) for name, value in row.items()} for row in rows],
        "poll_column": poll_column,
        "count": len(rows),
        "timestamp": now.isoformat(),
    }
    if operations is not None:
        given["operations"] = list(operations)
    return given


def jsonable(value: Any) -> JsonValue:
    """A driver's value as the JSON that queries answer, where ours can keep it."""
    return _storable(to_json(value))


def _storable(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return _storable_text(value)
    if isinstance(value, dict):
        return {_storable_text(name): _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return value


def _storable_text(text: str) -> str:
    """Without what a `json` column may escape and nothing of ours can keep: NUL, half pairs."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")
