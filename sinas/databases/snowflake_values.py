"""Values on their way to Snowflake and back."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from sinas.databases.base import StatementError
from sinas.databases.parameters import Parsed

# A type of the wire and a text; what the connector takes as a value whose type is given.
Bound: TypeAlias = tuple[str, str | None]

_MAX_DIGITS: Final = 38
# VARIANT, OBJECT, ARRAY, VECTOR and MAP come as the text of their JSON.
_JSON_CODES: Final = frozenset([5, 9, 10, 16, 17])


def bound(parsed: Parsed, given: Mapping[str, Any]) -> tuple[str, list[Bound]]:
    """The statement with `?` for each `:name`, and a value for each; one not given is NULL.

    Raises:
        StatementError: A value that Snowflake has no type for; it names the parameter.
    """
    return parsed.written(lambda _: "?"), [_bound(name, given.get(name)) for name in parsed.names]


def _bound(name: str, value: Any) -> Bound:
    match value:
        case None:
            return "ANY", None
        case bool():
            return "BOOLEAN", str(value).lower()
        case int():
            if len(str(abs(value))) > _MAX_DIGITS:
                raise StatementError(
                    f"Parameter '{name}': the number has more than {_MAX_DIGITS} digits."
                )
            return "FIXED", str(value)
        case float():
            return "REAL", _real(value)
        case str():
            return "TEXT", _text(name, value)
        case _:
            # PARSE_JSON(:name) makes a VARIANT of it.
            return "TEXT", _text(name, json.dumps(value, ensure_ascii=False))


def _real(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise StatementError(f"Parameter '{name}': it is no valid text.") from error
    return value


def opened_json(codes: Sequence[int], row: Sequence[Any]) -> tuple[Any, ...]:
    """A row whose semi-structured values are taken out of their texts."""
    return tuple(_opened(code, value) for code, value in zip(codes, row, strict=True))


def _opened(code: int, value: Any) -> Any:
    if code in _JSON_CODES and isinstance(value, str):
        # `undefined` is no JSON.
        with suppress(ValueError):
            return json.loads(value)
    return value
