"""Uploads as they come in: the content piece by piece, the fields around it in memory.

Both forms are read once, from the first byte to the last, whatever their size. The content is in
the storage when the fields are known: they may come after it.
"""

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import python_multipart
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError

from sinas.errors import BadRequestError, FieldError, InvalidInputError, PayloadTooLargeError
from sinas.kit.media_types import PLAIN, guessed
from sinas.resources.files.schemas import FileFields

_MAX_FIELDS_BYTES: Final = 1024 * 1024
_CONTENT: Final = "content_base64"
_STRUCTURE = re.compile(rb'["{}\[\],:]')
_FORM_FIELDS = frozenset({"name", "content_type", "visibility", "file_metadata", "update_existing"})


class Incoming(Protocol):
    """An upload that is being read."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The content, once.

        Raises:
            BadRequestError: It is not what it should be.
            InvalidInputError: There is none.
        """
        ...

    def fields(self) -> tuple[FileFields, bool]:
        """What was said of it, once it was read, and whether metadata were among it.

        Raises:
            RequestValidationError: A field is missing or wrong.
        """
        ...


class JsonIncoming:
    """A JSON object with the content in base64 as one of its values."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._split = JsonSplitter(_CONTENT)
        self._decoder = Base64Decoder()

    async def pieces(self) -> AsyncIterator[bytes]:
        """As `Incoming.pieces`."""
        async for chunk in self._stream:
            if text := self._split.feed(chunk):
                yield self._decoder.feed(text)
            if len(self._split.rest) > _MAX_FIELDS_BYTES:
                raise PayloadTooLargeError("The fields beside the content are too large.")
        yield self._decoder.finish()

    def fields(self) -> tuple[FileFields, bool]:
        """As `Incoming.fields`."""
        try:
            values = json.loads(self._split.rest)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"The request body is not valid JSON: {_reason(error)}."
            ) from error
        if not isinstance(values, dict):
            raise InvalidInputError("The request body must be a JSON object.")
        missing = []
        if self._split.found == 0:
            missing = [{"type": "missing", "loc": ("body", _CONTENT), "msg": "Field required"}]
        elif not isinstance(values.pop(_CONTENT, ""), str):
            message = "Input should be a valid string"
            missing = [{"type": "string_type", "loc": ("body", _CONTENT), "msg": message}]
        return _validated(FileFields, values, missing), values.get("file_metadata") is not None


class FormIncoming:
    """A form (RFC 7578) with one part `file`."""

    def __init__(self, stream: AsyncIterator[bytes], content_type: str) -> None:
        self._stream = stream
        _, options = python_multipart.multipart.parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise BadRequestError("The multipart body has no boundary in its Content-Type.")
        self._parts = _Parts()
        try:
            self._parser = python_multipart.MultipartParser(boundary, self._parts.callbacks())
        except FormParserError as error:
            raise BadRequestError(f"The multipart body cannot be read: {error}.") from error

    async def pieces(self) -> AsyncIterator[bytes]:
        """As `Incoming.pieces`."""
        try:
            async for chunk in self._stream:
                self._parser.write(chunk)
                if content := self._parts.taken():
                    yield content
            self._parser.finalize()
        except FormParserError as error:
            raise BadRequestError(f"The multipart body cannot be read: {error}.") from error
        if not self._parts.is_ended:
            raise BadRequestError("The multipart body ends before its last boundary.")
        if self._parts.filename is None:
            message = "Field required"
            raise InvalidInputError(f"file: {message}", [FieldError("file", message)])

    def fields(self) -> tuple[FileFields, bool]:
        """As `Incoming.fields`."""
        parts = self._parts
        values: dict[str, Any] = {}
        problems: list[Any] = []
        for name, text in parts.texts.items():
            if name not in _FORM_FIELDS:
                problems.append(
                    {"type": "extra_forbidden", "loc": ("body", name), "msg": "No such field"}
                )
            elif name == "file_metadata":
                try:
                    values[name] = json.loads(text)
                except (ValueError, RecursionError):
                    message = "Input should be a JSON object"
                    problems.append({"type": "value", "loc": ("body", name), "msg": message})
            else:
                values[name] = text
        values.setdefault("name", parts.filename)
        if not values.get("content_type"):
            name = str(values["name"])
            declared = parts.content_type
            # What programs say when they do not know.
            values["content_type"] = guessed(name) if declared in ("", PLAIN) else declared
        return _validated(FileFields, values, problems), "file_metadata" in values


class JsonSplitter:
    """Takes one text value out of a JSON object while it comes in; the rest is left to parse.

    Only strings and nesting are looked at: what is no JSON is no JSON without the value either.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self.rest = bytearray()
        self.found = 0
        self._depth = 0
        self._is_in_text = False
        self._is_taken = False
        self._escape = b""
        # The last text at depth 1, and whether a colon followed it: the key of the next value.
        self._text = bytearray()
        self._is_value = False

    def feed(self, chunk: bytes) -> bytes:
        """What the chunk has of the value, unescaped."""
        taken = bytearray()
        at = 0
        while at < len(chunk):
            at = self._in_text(chunk, at, taken) if self._is_in_text else self._outside(chunk, at)
        return bytes(taken)

    def _outside(self, chunk: bytes, at: int) -> int:
        match = _STRUCTURE.search(chunk, at)
        if match is None:
            self.rest += chunk[at:]
            return len(chunk)
        self.rest += chunk[at : match.end()]
        mark = match.group()
        if mark == b'"':
            self._is_in_text = True
            is_wanted = self._depth == 1 and self._is_value and bytes(self._text) == self._key
            self._is_taken = is_wanted
            if is_wanted:
                self.found += 1
                if self.found > 1:
                    message = "is there twice"
                    raise InvalidInputError(
                        f"content_base64 {message}", [FieldError("content_base64", message)]
                    )
            elif not self._is_value:
                self._text.clear()
        elif mark == b":":
            self._is_value = True
        else:
            self._is_value = False
            self._depth += (mark in b"{[") - (mark in b"}]")
        return match.end()

    def _in_text(self, chunk: bytes, at: int, taken: bytearray) -> int:
        if self._escape:
            return self._escaped(chunk, at, taken)
        quote = chunk.find(b'"', at)
        end = len(chunk) if quote < 0 else quote
        slash = chunk.find(b"\\", at, end)
        if slash >= 0:
            self._take(chunk[at:slash], taken)
            self._escape = b"\\"
            return slash + 1
        self._take(chunk[at:end], taken)
        if quote < 0:
            return end
        self._is_in_text = False
        self.rest += b'"'
        return end + 1

    def _escaped(self, chunk: bytes, at: int, taken: bytearray) -> int:
        self._escape += chunk[at : at + 1]
        wanted = 6 if self._escape[1:2] == b"u" else 2
        if len(self._escape) == wanted:
            escape, self._escape = self._escape, b""
            if self._is_taken:
                try:
                    taken += json.loads(b'"' + escape + b'"').encode()
                except ValueError as error:  # half a surrogate pair is one, too
                    raise not_base64() from error
            else:
                self._take(escape, taken)
        return at + 1

    def _take(self, text: bytes, taken: bytearray) -> None:
        if self._is_taken:
            taken += text
            return
        self.rest += text
        if self._depth == 1 and not self._is_value and len(self._text) <= len(self._key):
            self._text += text


class Base64Decoder:
    """Base64 (RFC 4648) that comes in pieces; white space is skipped."""

    def __init__(self) -> None:
        self._left = b""
        self._is_padded = False

    def feed(self, text: bytes) -> bytes:
        """What can be decoded by now.

        Raises:
            BadRequestError: It is not base64.
        """
        text = self._left + text.translate(None, b" \t\r\n")
        whole = len(text) // 4 * 4
        self._left = text[whole:]
        if not whole:
            return b""
        if self._is_padded:
            raise not_base64()
        self._is_padded = text[whole - 1 : whole] == b"="
        try:
            return base64.b64decode(text[:whole], validate=True)
        except binascii.Error as error:
            raise not_base64() from error

    def finish(self) -> bytes:
        """Nothing, if it ended where it may.

        Raises:
            BadRequestError: It did not.
        """
        if self._left:
            raise not_base64()
        return b""


class _Parts:
    """What the parser of a form tells, part by part."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.filename: str | None = None
        self.content_type = ""
        self.is_ended = False
        self._content = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._field: str | None = None
        self._value = bytearray()
        self._size = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda *given: self._header_data(self._header[0], *given),
            "on_header_value": lambda *given: self._header_data(self._header[1], *given),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finished,
        }

    def taken(self) -> bytes:
        content = bytes(self._content)
        self._content.clear()
        return content

    def _begin(self) -> None:
        self._headers = {}
        self._field = None
        self._value = bytearray()

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        header = self._headers.get(b"content-disposition", b"")
        _, options = python_multipart.multipart.parse_options_header(header)
        name = _text(options.get(b"name", b""), "name")
        if name != "file":
            self._field = name
            if name in self.texts:
                message = "is there twice"
                raise InvalidInputError(f"{name} {message}", [FieldError(name, message)])
            return
        if self.filename is not None:
            message = "is there twice; upload one file at a time"
            raise InvalidInputError(f"file {message}", [FieldError("file", message)])
        self.filename = _text(options.get(b"filename", b""), "file")
        self.content_type = _text(self._headers.get(b"content-type", b""), "file").strip()

    def _header_data(self, into: bytearray, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        into += data[start:end]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._content += data[start:end]
            return
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, size: int) -> None:
        """All that is kept until the end: fields and the headers of all parts."""
        self._size += size
        if self._size > _MAX_FIELDS_BYTES:
            raise PayloadTooLargeError("The fields beside the content are too large.")

    def _end(self) -> None:
        if self._field is not None:
            self.texts[self._field] = _text(bytes(self._value), self._field)

    def _finished(self) -> None:
        self.is_ended = True


def not_base64() -> BadRequestError:
    """The error for a content that is not base64."""
    message = "is not valid base64"
    return BadRequestError(f"content_base64 {message}", [FieldError("content_base64", message)])


def _text(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = "is not UTF-8"
        raise InvalidInputError(f"{field} {message}", [FieldError(field, message)]) from error


def _validated(model: type[FileFields], values: dict[str, Any], problems: list[Any]) -> FileFields:
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        told = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError([*problems, *told]) from None
    if problems:
        raise RequestValidationError(problems)
    return found


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
