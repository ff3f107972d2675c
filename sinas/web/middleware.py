"""ASGI middleware: request ids, body limits, one log line per request."""

import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sinas.errors import PayloadTooLargeError

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024


class RequestId:
    """Gives each request an id: the client's own `X-Request-ID` if sane, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its id in scope, log context and answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or uuid4().hex
        scope["request_id"] = request_id
        status = 500
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                log.debug(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    duration_ms=round((time.perf_counter() - started) * 1000, 1),
                )


class BodyLimit:
    """Refuses bodies above `limit` bytes, whether announced or streamed.

    A route that keeps no body in memory sets another limit: `scope["body_limit"]`, before it reads.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["body_limit"] = self._limit
        announced = _announced(scope) or 0
        received = 0

        def check() -> None:
            limit = scope["body_limit"]
            if max(announced, received) > limit:
                raise PayloadTooLargeError(
                    f"The request body is larger than {limit // 1024 // 1024} MiB."
                )

        async def limited() -> Message:
            nonlocal received
            check()
            message = await receive()
            received += len(message.get("body", b""))
            check()
            return message

        await self._app(scope, limited, send)


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _given_id(scope: Scope) -> str:
    value = _header(scope, b"x-request-id")
    return value if value.isascii() and value.isprintable() and len(value) <= 128 else ""


def _announced(scope: Scope) -> int | None:
    value = _header(scope, b"content-length")
    return int(value) if value.isdigit() else None
