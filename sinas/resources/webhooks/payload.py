"""From a call of a webhook to the input it gives: pure."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from sinas.errors import BadRequestError
from sinas.kit.json_types import JsonObject, JsonValue

_MAX_FIELDS = 1000
_MAX_FILES = 100
# Names of headers that carry credentials, in full or as a part of the name.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
# Python knows others that take quadratic time to decode.
_CHARSETS = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252", "utf-16"}
)
_SECRETIVE = ("token", "secret", "password", "api-key", "apikey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One call, as it came in.

    Attributes:
        query: Without the question mark.
        headers: Names in lower case; values of repeated ones joined with commas.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    client_address: str | None

    @property
    def content_type(self) -> str | None:
        """As the caller says."""
        return self.headers.get("content-type")

    def shown_headers(self) -> dict[str, JsonValue]:
        """Headers without those that carry credentials."""
        return {name: value for name, value in self.headers.items() if not _is_secret(name)}


def _is_secret(name: str) -> bool:
    return name in _CREDENTIALS or any(part in name for part in _SECRETIVE)


def joined_headers(headers: Headers) -> dict[str, str]:
    """Headers as a dictionary, repeated ones as one (RFC 9110, 5.3)."""
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def query_of(query: str) -> JsonObject:
    """Parameters of a query: texts, and lists of texts for repeated names.

    Raises:
        BadRequestError: More than there may be.
    """
    return _collected(_pairs(query, "The query"))


async def payload_of(incoming: Incoming) -> JsonValue:
    """What the body says, by its content type; the query for a GET without a body.

    JSON is taken as it is. Forms become objects: texts, files as `{filename, content_type,
    content_base64}`, lists for repeated names. Anything else is `{"body": text}`, or
    `{"body": base64, "encoding": "base64"}` where it is no text.

    Raises:
        BadRequestError: The body is not what its content type says.
    """
    if not incoming.body:
        return query_of(incoming.query) if incoming.method == "GET" else {}
    kind, charset = _kind(incoming.content_type)
    if kind == "application/json" or kind.endswith("+json"):
        return _json(incoming.body)
    if kind == "application/x-www-form-urlencoded":
        try:
            return _collected(_pairs(incoming.body.decode(charset), "The form"))
        except UnicodeDecodeError:
            raise BadRequestError(f"The form in the body is not valid {charset}.") from None
    if kind == "multipart/form-data":
        return await _multipart(incoming)
    return _raw(incoming.body, charset)


def input_of(payload: JsonValue, defaults: JsonObject | None) -> JsonObject:
    """The input of the target: an object, over the webhook's default values."""
    given = payload if isinstance(payload, dict) else {"input": payload}
    return {**(defaults or {}), **given}


def text_of(payload: JsonValue) -> str:
    """The payload as a message: a text body as it is, anything else as JSON."""
    match payload:
        case {"body": str(text), **others} if not others:
            return text
        case _:
            return orjson.dumps(payload).decode()


def dedup_key(key: str, payload: JsonValue, headers: Mapping[str, str]) -> str | None:
    """Hash of the value calls are deduplicated by, None where the call has none.

    `key` is `header:Name`, or `$.a.b`, a path into the payload.
    """
    prefix, _, name = key.partition(":")
    value: JsonValue
    if prefix == "header":
        value = headers.get(name.strip().lower())
    else:
        value = payload
        for part in key.split(".")[1:]:
            value = value.get(part) if isinstance(value, dict) else None
    if value is None or value == "":
        return None
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _kind(content_type: str | None) -> tuple[str, str]:
    message = Message()
    message["content-type"] = content_type or "application/octet-stream"
    charset = message.get_content_charset() or "utf-8"
    return message.get_content_type(), charset if charset in _CHARSETS else "utf-8"


def _json(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"The request body is not valid JSON: {error}.") from None
    return value


def _pairs(text: str, what: str) -> list[tuple[str, Any]]:
    try:
        return cast(
            "list[tuple[str, Any]]",
            parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS),
        )
    except ValueError:
        raise BadRequestError(f"{what} has more than {_MAX_FIELDS} fields.") from None


def _collected(pairs: list[tuple[str, Any]]) -> JsonObject:
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


async def _multipart(incoming: Incoming) -> JsonObject:
    async def stream() -> AsyncIterator[bytes]:
        yield incoming.body

    parser = MultiPartParser(
        Headers(dict(incoming.headers)),
        cast("Any", stream()),
        max_files=_MAX_FILES,
        max_fields=_MAX_FIELDS,
        max_part_size=len(incoming.body),
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequestError(f"The multipart body cannot be read: {error.message}") from None
    except (KeyError, ValueError):
        raise BadRequestError(
            "The multipart body cannot be read: its content type names no boundary."
        ) from None
    try:
        pairs = [(name, await _part(value)) for name, value in form.multi_items()]
    finally:
        await form.close()
    return _collected(pairs)


async def _part(value: UploadFile | str) -> JsonValue:
    if isinstance(value, str):
        return value
    return {
        "filename": value.filename,
        "content_type": value.content_type,
        "content_base64": base64.b64encode(await value.read()).decode(),
    }


def _raw(body: bytes, charset: str) -> JsonObject:
    try:
        text = body.decode(charset)
    except UnicodeDecodeError:
        text = "\x00"
    # PostgreSQL stores no NUL.
    if "\x00" in text:
        return {"body": binascii.b2a_base64(body, newline=False).decode(), "encoding": "base64"}
    return {"body": text}
