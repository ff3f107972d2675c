"""Values of states: what may be stored, and how it is stored."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from sinas.errors import (
    BadRequestError,
    ConfigurationError,
    FieldError,
    InvalidInputError,
    PayloadTooLargeError,
    UnavailableError,
)
from sinas.kit.crypto import Cipher
from sinas.kit.json_text import NotJsonError, encode
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import compile_schema
from sinas.models import StateVisibility

MAX_VALUE_BYTES: Final = 4 * 1024 * 1024
# Above this, a thread costs less than the pause would be for everybody else.
_INLINE_BYTES = 32_768
# What references inside a schema can lead to.
_KEPT = ("$defs", "definitions", "properties", "patternProperties", "$id", "$anchor")


class UnreadableStateError(UnavailableError):
    """A state was encrypted under another key. Trying again does not help before it is mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a store asks of its states."""

    id: UUID
    namespace: str
    name: str
    schema: JsonObject
    strict: bool
    default_visibility: StateVisibility
    encrypted: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Rules":
        """From a row with `statements.RULES`."""
        return cls(
            id=row["store_id"],
            namespace=row["store_namespace"],
            name=row["store_name"],
            schema=row["store_schema"],
            strict=row["store_strict"],
            default_visibility=StateVisibility(row["store_default_visibility"]),
            encrypted=row["store_encrypted"],
        )

    @property
    def reference(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def known_keys(self) -> JsonObject:
        """Keys the schema names, with the schemas of their values."""
        properties = self.schema.get("properties")
        return properties if isinstance(properties, dict) else {}

    async def check(self, key: str, value: JsonValue) -> None:
        """Make sure that a value may be stored under a key.

        Raises:
            InvalidInputError: It holds what cannot be stored.
            PayloadTooLargeError: It has more than `MAX_VALUE_BYTES`.
            BadRequestError: The store is strict, and the key is none of its keys, or the value
                breaks the schema of its key.
        """
        size = _size(value)
        if not self.strict:
            return
        if self.known_keys and key not in self.known_keys:
            known = ", ".join(f"'{each}'" for each in sorted(self.known_keys))
            message = f"Store '{self.reference}' is strict and has no key '{key}'; it has {known}."
            raise BadRequestError(message, [FieldError("key", message)])
        await self._check_schema(key, value, size)

    async def _check_schema(self, key: str, value: JsonValue, size: int) -> None:
        # As an object with the one key, so that references from one property to another, and
        # to `$defs`, lead where the author meant.
        schema = compile_schema({name: self.schema[name] for name in _KEPT if name in self.schema})
        if size > _INLINE_BYTES or schema.is_costly:
            violations = await asyncio.to_thread(schema.violations, {key: value})
        else:
            violations = schema.violations({key: value})
        if not violations:
            return
        errors = [
            FieldError(".".join(("value", *map(str, violation.path[1:]))), violation.message)
            for violation in violations
        ]
        raise BadRequestError(
            f"The value breaks the schema of key '{key}' in store '{self.reference}': "
            f"{errors[0].field}: {errors[0].message}",
            errors,
        )


def _size(value: JsonValue) -> int:
    try:
        size = len(encode(value))
    except NotJsonError as error:
        message = f"The value {error}."
        raise InvalidInputError(message, [FieldError("value", message)]) from None
    if size > MAX_VALUE_BYTES:
        raise PayloadTooLargeError(
            f"The value has {size} bytes as JSON; the limit is {MAX_VALUE_BYTES}."
        )
    return size


async def packed(cipher: Cipher, value: JsonValue, *, encrypted: bool) -> dict[str, Any]:
    """The columns of a checked value."""
    if not encrypted:
        return {"value": value, "encrypted_value": None, "encrypted": False}
    text = encode(value).decode()
    secret = (
        await asyncio.to_thread(cipher.encrypt, text)
        if len(text) > _INLINE_BYTES
        else cipher.encrypt(text)
    )
    return {"value": {}, "encrypted_value": secret, "encrypted": True}


def unpacked(cipher: Cipher, row: Mapping[str, Any]) -> JsonValue:
    """The value in the columns of a state.

    Raises:
        UnreadableStateError: It was encrypted under another ENCRYPTION_KEY.
    """
    if not row["encrypted"]:
        value: JsonValue = row["value"]
        return value
    try:
        found: JsonValue = orjson.loads(cipher.decrypt(row["encrypted_value"]))
    except ConfigurationError as error:
        raise UnreadableStateError(
            f"State '{row['key']}' cannot be decrypted: ENCRYPTION_KEY is not the key it was "
            "encrypted with. Restore the old key, or store the state again."
        ) from error
    return found
