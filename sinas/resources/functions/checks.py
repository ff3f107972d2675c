"""What a function must satisfy to be saved: pure."""

import warnings

from sinas.errors import FieldError, InvalidInputError
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema

MAX_CODE_CHARS = 262_144
MAX_SCHEMA_BYTES = 262_144


def check_code(code: str) -> None:
    """Make sure that `code` is a Python module; nothing of it runs.

    Raises:
        InvalidInputError: It does not parse, with the line, or is too large or too deep.
    """
    if len(code) > MAX_CODE_CHARS:
        raise _invalid("code", f"has {len(code)} characters; the limit is {MAX_CODE_CHARS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "<code>", "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise _invalid("code", f"does not parse as Python: {line}{error.msg}") from None
    except (MemoryError, RecursionError):
        raise _invalid("code", "is nested too deeply for Python to parse") from None
    except ValueError as error:
        # Characters that are not text, such as half a surrogate pair.
        raise _invalid("code", f"does not parse as Python: {error}") from None


def check_function_schema(field: str, schema: JsonObject) -> None:
    """Make sure that `schema`, given as `field`, can validate values.

    Raises:
        InvalidInputError: No valid JSON Schema (draft 2020-12), without a `type`, too large, or
            with a reference that leads nowhere.
    """
    if "type" not in schema:
        raise _invalid(field, 'needs a "type" key, for example {"type": "object"}')
    try:
        size = len(encode(schema))
        if size > MAX_SCHEMA_BYTES:
            raise _invalid(field, f"has {size} bytes; the limit is {MAX_SCHEMA_BYTES}")
        check_schema(schema)
    except NotJsonError as error:
        raise _invalid(field, str(error)) from None
    except BadSchemaError as error:
        where = ".".join((field, *map(str, error.path)))
        raise _invalid(where, f"is no valid JSON Schema: {error.message}") from None


def _invalid(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field} {message}", [FieldError(field, message)])
