"""Requests as the beginning of traces."""

import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sinas.context import AppContext
from sinas.tracing import names
from sinas.tracing.spans import Kind, Span

_READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class RequestSpans:
    """Runs requests in a span that goes on from the caller's `traceparent` (W3C Trace Context).

    Reads cause nothing and consoles make many of them: they have a span only where the caller
    traces them. The span names the route, never the path or the query, which may hold secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, in a span where it is to have one."""
        parent = _traceparent(scope) if scope["type"] == "http" else None
        if scope["type"] != "http" or (parent is None and scope["method"] in _READ_METHODS):
            await self._app(scope, receive, send)
            return
        context: AppContext = scope["app"].state.context
        with context.tracer.span(Kind.REQUEST, scope["method"], parent=parent) as span:
            if not span.is_recording:
                await self._app(scope, receive, send)
                return
            status: int | None = None

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                _conclude(span, scope, status)


def _conclude(span: Span, scope: Scope, status: int | None) -> None:
    route = getattr(scope.get("route"), "path_format", None)
    if route is not None:
        route = scope.get("root_path", "") + route
        span.name(f"{scope['method']} {route}")
    span.set(
        {
            names.HTTP_METHOD: scope["method"],
            names.HTTP_ROUTE: route,
            names.HTTP_STATUS: status,
            names.REQUEST_ID: scope.get("request_id"),
        }
    )
    if status is not None and status >= 500:
        span.fail(scope.get("error_type") or str(status))


def _traceparent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            return str(value.decode("latin-1"))
    return None
