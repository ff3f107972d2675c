"""What the input of a call must satisfy to be accepted."""

import asyncio

from sinas.errors import FieldError, InvalidInputError, PayloadTooLargeError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import Schema, Violation, compile_schema

# Above this, validating in a thread costs less than the pause it would be for everybody else.
_INLINE_BYTES = 32_768


async def checked(
    given: JsonObject, input_schema: JsonObject, max_bytes: int
) -> tuple[JsonObject, tuple[FieldError, ...]]:
    """The input as the function gets it, and where it breaks the schema.

    Raises:
        PayloadTooLargeError: It has more than `max_bytes` as JSON.
        InvalidInputError: It holds what cannot be stored.
    """
    size = _size(given, max_bytes)
    schema = compile_schema(input_schema)
    coerced = schema.coerce(given)
    if coerced != given:
        _size(coerced, max_bytes)
    return coerced, tuple(map(_field_error, await _violations(schema, coerced, size)))


def _size(given: JsonObject, max_bytes: int) -> int:
    try:
        size = len(encode(given))
    except NotJsonError as error:
        message = f"The input {error}."
        raise InvalidInputError(message, [FieldError("input", message)]) from None
    if size > max_bytes:
        raise PayloadTooLargeError(
            f"The input has {size} bytes as JSON; the limit is {max_bytes} "
            "(FUNCTION_MAX_INPUT_BYTES)."
        )
    return size


async def _violations(schema: Schema, value: JsonObject, size: int) -> tuple[Violation, ...]:
    if size > _INLINE_BYTES or schema.is_costly:
        return await asyncio.to_thread(schema.violations, value)
    return schema.violations(value)


def _field_error(violation: Violation) -> FieldError:
    return FieldError(".".join(("input", *map(str, violation.path))), violation.message)
