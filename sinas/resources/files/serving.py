"""Contents as answers: whole or in part, and nothing of it in memory but the next piece."""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from sinas.context import AppContext
from sinas.errors import PreconditionError
from sinas.kit.http_ranges import Part, Whole, decide, http_date
from sinas.kit.media_types import served_headers
from sinas.models import File, FileVersion
from sinas.resources.files.repository import Found
from sinas.resources.files.uploads import etag
from sinas.storage.base import Reading

# Of base64, so that the pieces join to one text.
_GROUP = 3


class _Stream(StreamingResponse):
    """Closes what it reads from, also when the client goes away."""

    def __init__(self, reading: Reading, body: AsyncIterator[bytes], **arguments: object) -> None:
        super().__init__(body, **arguments)  # type: ignore[arg-type]
        self._reading = reading

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._reading):
            await super().__call__(scope, receive, send)


async def raw(
    context: AppContext, request: Request, file: File, version: FileVersion, cache: str
) -> Response:
    """The bytes, as the request's conditions and range ask for.

    Raises:
        PreconditionError: The version is not the one in If-Match.
        ContentMissingError: It was deleted meanwhile.
    """
    size = version.size_bytes
    outcome = decide(request.headers, etag(version), version.created_at, size)
    headers = served_headers(version.content_type, file.name) | {
        "ETag": etag(version),
        "Last-Modified": http_date(version.created_at),
        "Cache-Control": cache,
        "Accept-Ranges": "bytes",
    }
    match outcome:
        case "failed":
            raise PreconditionError("The file has changed.")
        case "not_modified":
            return _empty(304, headers)
        case "unsatisfiable":
            return _empty(416, headers | {"Content-Range": f"bytes */{size}"})
        case Whole():
            return await _bytes(context, version, 200, headers, 0, size)
        case Part(first=first, last=last):
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            return await _bytes(context, version, 206, headers, first, last - first + 1)


async def as_json(context: AppContext, found: Found) -> Response:
    """The content in base64, in a JSON object that is written while it is read."""
    reading = await context.storage.open(found.version.blob_id.hex)
    rest = {
        "content_type": found.version.content_type,
        "file_metadata": found.file.file_metadata,
        "version": found.version.version_number,
    }

    async def body() -> AsyncIterator[bytes]:
        yield b'{"content_base64":"'
        left = b""
        async for piece in reading:
            data = left + piece
            whole = len(data) // _GROUP * _GROUP
            left = data[whole:]
            yield base64.b64encode(data[:whole])
        yield base64.b64encode(left) + b'",' + orjson.dumps(rest)[1:]

    return _Stream(reading, body(), media_type="application/json")


async def _bytes(
    context: AppContext,
    version: FileVersion,
    status: int,
    headers: Mapping[str, str],
    start: int,
    length: int,
) -> Response:
    reading = await context.storage.open(version.blob_id.hex, start, length)
    answer = _Stream(reading, aiter(reading), status_code=status)
    _set(answer, {**headers, "Content-Length": str(length)})
    return answer


def _empty(status: int, headers: Mapping[str, str]) -> Response:
    answer = Response(status_code=status)
    _set(answer, headers)
    return answer


def _set(answer: Response, headers: Mapping[str, str]) -> None:
    # One by one: given at once, `Content-Type` would be there twice.
    for name, value in headers.items():
        answer.headers[name] = value
