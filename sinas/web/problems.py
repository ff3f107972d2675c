"""Errors at the HTTP edge: one shape for all of them, RFC 9457 problem details.

`detail` is always there and always one readable sentence; field errors are in `errors`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException as StarletteHTTPException  # noqa: TID251 - mapped here
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sinas import errors

log = structlog.get_logger(__name__)

STATUS: Mapping[type[errors.SinasError], int] = {
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.DuplicateError: 400,
    errors.PreconditionError: 412,
    errors.ConflictError: 409,
    errors.BadRequestError: 400,
    errors.InvalidInputError: 422,
    errors.PayloadTooLargeError: 413,
    errors.RateLimitedError: 429,
    errors.UpstreamError: 502,
    errors.UnavailableError: 503,
    errors.DeadlineError: 504,
}
_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not authorized",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Payload too large",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    502: "Upstream error",
    503: "Unavailable",
    504: "Deadline exceeded",
}
# What database and Redis raise; see `meaning_of`.
BACKEND_ERRORS: tuple[type[Exception], ...] = (
    StatementError,
    UnicodeEncodeError,
    PoolTimeoutError,
    ConnectionError,
    RedisConnectionError,
    RedisTimeoutError,
)
# SQLSTATEs that a caller's text can cause: untranslatable character (NUL), invalid byte
# sequence, number out of range.
_CALLER_SQLSTATES = frozenset({"22021", "22P05", "22003"})


# Names of types in the paths of pydantic's errors in unions.
_KINDS = frozenset({"str", "constrained-str", "int", "float", "bool", "dict", "list", "none"})


class ProblemField(BaseModel):
    """One rejected field."""

    field: str
    message: str


class Problem(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemField] | None = None


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": _TITLES[status],
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for status in (400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 502, 503, 504)
}


def status_of(error: errors.SinasError) -> int:
    """The HTTP status of an error, by its nearest mapped base class."""
    for base in type(error).__mro__:
        if base in STATUS:
            return STATUS[base]
    return 500


def problem(
    request: Request,
    status: int,
    detail: str,
    code: str,
    *,
    field_errors: list[ProblemField] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer for one error."""
    body = Problem(
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        request_id=request.scope.get("request_id", ""),
        errors=field_errors,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


async def _sinas_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.SinasError)
    status = status_of(error)
    headers: dict[str, str] = {}
    fields: list[ProblemField] | None = None
    match error:
        case errors.UnauthenticatedError():
            headers["WWW-Authenticate"] = "Bearer"
        case errors.RateLimitedError() | errors.UnavailableError():
            headers["Retry-After"] = str(error.retry_after_seconds)
        case errors.InvalidInputError() if error.errors:
            fields = [ProblemField(field=e.field, message=e.message) for e in error.errors]
    if (execution_id := getattr(error, "execution_id", None)) is not None:
        headers["X-Execution-ID"] = str(execution_id)
    if status == 500:
        log.error("request.unmapped_error", error=error.message, exc_info=error)
        return problem(request, 500, "Internal error", "internal")
    return problem(request, status, error.message, error.code, field_errors=fields, headers=headers)


def _field(location: tuple[int | str, ...]) -> str:
    """A dotted path without the part of the request it was found in."""
    parts = (
        location[1:]
        if location and location[0] in ("body", "query", "path", "header")
        else location
    )
    return ".".join(str(part) for part in parts if not _is_kind(part))


def _is_kind(part: int | str) -> bool:
    """Whether pydantic put it into a path for the alternative it tried, not for a field."""
    return isinstance(part, str) and ("[" in part or part in _KINDS)


def _deepest(fields: Sequence[ProblemField]) -> list[ProblemField]:
    """Without what an alternative said that did not even fit the outline of the value."""
    # Not by comparing all with all: a body can have a hundred thousand mistakes.
    outlines: set[str] = set()
    for field in fields:
        outer = field.field.rpartition(".")[0]
        while outer and outer not in outlines:
            outlines.add(outer)
            outer = outer.rpartition(".")[0]
    return [field for field in fields if not field.field or field.field not in outlines]


def _rejected(found: Mapping[str, Any]) -> ProblemField:
    """One of pydantic's errors in words for whoever sent the request."""
    location = tuple(found["loc"])
    match found["type"]:
        case "json_invalid":
            reason = found.get("ctx", {}).get("error", "")
            message = f"The request body is not valid JSON at character {location[-1]}: {reason}"
            return ProblemField(field="", message=message)
        case "extra_forbidden":
            return ProblemField(field=_field(location), message="There is no such field")
        case _:
            # pydantic puts this before what our own validators say.
            message = str(found["msg"]).removeprefix("Value error, ")
            return ProblemField(field=_field(location), message=message)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = _deepest([_rejected(e) for e in error.errors()])
    first = fields[0] if fields else ProblemField(field="", message="Invalid input")
    where = f"{first.field}: " if first.field else ""
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return problem(
        request, 422, f"{where}{first.message}{more}", "invalid_input", field_errors=fields
    )


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error.__cause__, errors.SinasError):
        # FastAPI's "error parsing the body" for what our middleware raised while it was read.
        return await _sinas_error(request, error.__cause__)
    code = "not_found" if error.status_code == 404 else "http_error"
    return problem(request, error.status_code, str(error.detail), code, headers=error.headers)


def meaning_of(error: Exception) -> errors.SinasError | None:
    """What a failure of database or Redis tells a caller; None where the fault is ours.

    Never the driver's text: it carries SQL and parameters.
    """
    if isinstance(error, StatementError | UnicodeEncodeError):
        sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
        if sqlstate in _CALLER_SQLSTATES or _is_unsendable(error):
            return errors.InvalidInputError(
                "A text contains a character that cannot be stored (NUL or half of a surrogate "
                "pair), or a number is too large: integers have at most 64 bits."
            )
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A value of ours that no statement takes.
        log.error("request.database_error", exc_info=error)
        return None
    if isinstance(error, DBAPIError):
        is_away = isinstance(error, OperationalError | InterfaceError)
        if not is_away and not error.connection_invalidated:
            log.error("request.database_error", exc_info=error)
            return None
    log.warning("request.backend_unavailable", error=type(error).__name__)
    return errors.UnavailableError(
        "A part of the platform is not reachable right now; try again in a moment.",
        retry_after_seconds=2,
    )


async def _backend_error(request: Request, error: Exception) -> JSONResponse:
    found = meaning_of(error)
    if found is not None:
        return await _sinas_error(request, found)
    return problem(request, 500, "Internal error", "internal")


def _is_unsendable(error: BaseException | None) -> bool:
    """Whether the driver itself could not put a value on the wire: lone surrogate, huge number."""
    while error is not None:
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return True
        error = error.__cause__
    return False


async def _internal(request: Request, error: Exception) -> JSONResponse:
    log.error("request.failed", exc_info=error)
    request.scope["error_type"] = type(error).__qualname__  # for the request's span
    return problem(request, 500, "Internal error", "internal")


class InternalErrors:
    """Answers what nobody foresaw, inside the other middleware.

    Starlette's own handler of `Exception` is outside of all middleware, where the answer would
    lack request id and CORS headers, and a browser would report a network error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; a stream that breaks after it began can only be cut."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            answer = await _internal(Request(scope), error)
            await answer(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make `app` answer every error in this shape."""
    app.add_exception_handler(errors.SinasError, _sinas_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    for kind in BACKEND_ERRORS:
        app.add_exception_handler(kind, _backend_error)
    app.add_exception_handler(Exception, _internal)
