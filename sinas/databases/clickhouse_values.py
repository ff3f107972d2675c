"""Values on their way to ClickHouse and back: parameters as its text form, rows from its JSON."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from sinas.databases.base import StatementError
from sinas.databases.parameters import Parsed

_Convert: TypeAlias = Callable[[Any], Any]

# What an author may write instead of `:name`. One that is found inside a text only sends a
# parameter that nothing asks for.
_TYPED: Final = re.compile(r"\{\s*([A-Za-z_]\w*)\s*:\s*([^{}]+?)\s*\}")
_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f"}
)
_QUOTED: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0"})
_BITS: Final = (("Int64", 63, True), ("UInt64", 64, False), ("Int128", 127, True))


def bound(parsed: Parsed, given: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The statement with `{name:Type}` for each `:name`, and the parameters' texts.

    ClickHouse wants a type for every parameter; that of `:name` is its value's. A parameter that
    was not given is NULL.

    Raises:
        StatementError: A value that has no type of ClickHouse's; it names the parameter.
    """
    kinds = {name: _kind(name, given.get(name)) for name in parsed.names}
    sql = parsed.written(lambda name: f"{{{name}:{kinds[name]}}}")
    kinds |= {name: kind for part in parsed.parts for name, kind in _TYPED.findall(part)}
    return sql, {name: _text(name, given.get(name), kind) for name, kind in kinds.items()}


def _kind(name: str, value: Any) -> str:
    match value:
        case None:
            return "Nullable(Nothing)"
        case bool():
            return "Bool"
        case int():
            return _whole_kind(name, value)
        case float():
            return "Float64"
        case list() | tuple():
            return f"Array({_common_kind(name, value)})"
        case _:
            # An object becomes the text of its JSON.
            return "String"


def _whole_kind(name: str, value: int) -> str:
    for kind, bits, is_signed in _BITS:
        if (-(2**bits) if is_signed else 0) <= value < 2**bits:
            return kind
    raise StatementError(f"Parameter '{name}': {value} is too large a number for ClickHouse here.")


def _common_kind(name: str, values: Sequence[Any]) -> str:
    kinds = {_kind(name, value) for value in values if value is not None}
    if kinds == {"Int64", "Float64"}:
        kinds = {"Float64"}
    if len(kinds) > 1:
        raise StatementError(
            f"Parameter '{name}': the list holds values of several types "
            f"({', '.join(sorted(kinds))}); write one for it, as in {{{name}:Array(String)}}."
        )
    kind = kinds.pop() if kinds else "Nothing"
    # An array cannot be Nullable.
    return f"Nullable({kind})" if None in values and not kind.startswith("Array") else kind


def _text(name: str, value: Any, kind: str) -> str:
    """A value as ClickHouse reads parameters: tab-separated values, escaped."""
    try:
        text = _written(value, kind)
        text.encode()
    except UnicodeEncodeError as error:
        raise StatementError(f"Parameter '{name}': it is no valid text.") from error
    return text


def _written(value: Any, kind: str) -> str:
    match value:
        case None:
            return "\\N"
        case list() | tuple() if not kind.startswith("String"):
            return _literal(value, kind)
        case dict() if "Map(" in kind or kind.startswith("Tuple("):
            return _literal(value, kind)
        case list() | tuple() | dict():
            return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)
        case str():
            return value.translate(_ESCAPES)
        case _:
            return _literal(value, kind)


def _literal(value: Any, kind: str = "") -> str:  # noqa: PLR0911 - one way out for each kind
    """A value inside an array, a map or a tuple, where texts are in quotes."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            opening, closing = "()" if kind.startswith("Tuple(") else "[]"
            return opening + ",".join(map(_literal, value)) + closing
        case dict() if kind.startswith("Tuple("):
            return _literal([*value.values()], kind)
        case dict():
            pairs = (f"{_literal(str(key))}:{_literal(each)}" for key, each in value.items())
            return "{" + ",".join(pairs) + "}"
        case _:
            return "'" + str(value).translate(_QUOTED) + "'"


def row_reader(kinds: Sequence[str]) -> Callable[[bytes], tuple[Any, ...]]:
    """Reads one row of JSONCompactEachRow, whose columns are of these types.

    Raises:
        ValueError: When it is called with what is no such row.
    """
    converters = [_converter(kind) for kind in kinds]

    def read(line: bytes) -> tuple[Any, ...]:
        values = json.loads(line.decode(errors="replace"), parse_float=Decimal)
        return tuple(_all_converted(converters, values))

    return read


def _all_converted(converters: Sequence[_Convert | None], values: Iterable[Any]) -> list[Any]:
    pairs = zip(converters, values, strict=True)
    return [_converted(convert, value) for convert, value in pairs]


def _converted(convert: _Convert | None, value: Any) -> Any:
    if convert is None or value is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError, AttributeError):
        # The profile of a user who may not choose formats has chosen another.
        return _loose(value)


# Their JSON is what we answer.
_PLAIN: Final = frozenset(
    [
        *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32)),
        *("String", "FixedString", "Bool", "Date", "Date32", "Time", "Time64", "UUID", "Enum8"),
        *("Enum16", "IPv4", "IPv6", "Nothing", "AggregateFunction"),
    ]
)


def _converter(kind: str) -> _Convert | None:  # noqa: PLR0911 - one way out for each kind of type
    name, arguments = _taken_apart(kind)
    match name:
        case "Nullable" | "LowCardinality":
            return _converter(arguments[0])
        case "SimpleAggregateFunction":
            return _converter(arguments[1])
        case "Array":
            return _in_list(_converter(arguments[0]))
        case "Map":
            return _in_object(_converter(arguments[1]))
        case "Tuple" | "Nested":
            return _in_tuple([_converter(_without_name(each)) for each in arguments])
        case "Float32" | "Float64" | "BFloat16":
            return float
        case "Int64" | "UInt64":
            return int
        case "Int128" | "UInt128" | "Int256" | "UInt256":
            return str
        case "Decimal":
            return _decimal
        case "DateTime" | "DateTime64":
            return _moment
    return None if name in _PLAIN or name.startswith("Interval") else _loose


def _in_list(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: [_converted(convert, value) for value in values]


def _in_object(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: {key: _converted(convert, value) for key, value in values.items()}


def _in_tuple(converters: Sequence[_Convert | None]) -> _Convert:
    """A tuple whose elements have names comes as an object; a Nested as a list of tuples."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return dict(zip(value, _all_converted(converters, value.values()), strict=True))
        if value and isinstance(value[0], list | dict) and len(value) != len(converters):
            return [convert(each) for each in value]
        return _all_converted(converters, value)

    return convert


def _decimal(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _moment(value: str) -> str:
    """`…T…Z`, or `… …` for a user who may not choose that form."""
    text = value.replace(" ", "T", 1)
    return f"{text[:-1]}+00:00" if text.endswith("Z") else text


def _loose(value: Any) -> Any:
    """What carries its types with it: JSON, Dynamic, Variant, and types not known here."""
    match value:
        case Decimal():
            return float(value)
        case list():
            return [_loose(each) for each in value]
        case dict():
            return {key: _loose(each) for key, each in value.items()}
    return value


def _taken_apart(kind: str) -> tuple[str, list[str]]:
    """`Map(String, Array(UInt8))` is `Map` of `String` and `Array(UInt8)`."""
    name, bracket, inner = kind.strip().partition("(")
    if not bracket:
        return name, []
    arguments: list[str] = []
    begin = depth = 0
    for mark in re.finditer(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|[(),]", inner):
        match mark.group():
            case "(":
                depth += 1
            case ")":
                depth -= 1
            case "," if depth == 0:
                arguments.append(inner[begin : mark.start()].strip())
                begin = mark.end()
        if depth < 0:
            arguments.append(inner[begin : mark.start()].strip())
            break
    return name, arguments


def _without_name(element: str) -> str:
    """The type of a tuple's element, which may have a name before it."""
    found = re.match(r"(?:`(?:[^`\\]|\\.)*`|\w+)\s+(?=\w)", element)
    return element if found is None else element[found.end() :]
