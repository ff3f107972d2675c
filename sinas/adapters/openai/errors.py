"""Errors in OpenAI's shape: `{"error": {message, type, param, code}}`."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException  # noqa: TID251 - mapped here

from sinas import errors
from sinas.llm.failures import RefusedError
from sinas.web.problems import BACKEND_ERRORS, meaning_of, status_of

log = structlog.get_logger(__name__)

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES: Final[Mapping[type[errors.SinasError], str]] = {
    errors.UnauthenticatedError: "invalid_api_key",
    errors.ForbiddenError: "permission_denied",
    errors.RateLimitedError: "rate_limit_exceeded",
}
# What a provider says about the request, not about itself.
_CLIENTS_STATUS: Final = frozenset({400, 404, 413, 422, 429})
_CREDENTIAL_STATUS: Final = frozenset({401, 402, 403, 407})
_RETRY_AFTER: Final = re.compile(r"[0-9]{1,9}|[A-Za-z0-9 ,:+-]{1,40}")


class ModelNotFoundError(errors.NotFoundError):
    """No such model, or none that the caller may use: the two look the same."""

    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model '{model}' does not exist or you do not have access to it.")


class BadParameterError(errors.BadRequestError):
    """A parameter with a value that cannot be."""

    code = "invalid_value"

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}", [errors.FieldError(param, message)])


class UnsupportedParameterError(BadParameterError):
    """A parameter that is not possible with this model."""

    code = "unsupported_parameter"


def body_of(error: errors.SinasError) -> dict[str, Any]:
    """The `error` object."""
    status = _status_of(error)
    if status == 500:
        log.error("request.unmapped_error", error=error.message, exc_info=error)
        return _body(500, "Internal error", "internal")
    param = "model" if isinstance(error, ModelNotFoundError) else None
    code = next((_CODES[base] for base in type(error).__mro__ if base in _CODES), error.code)
    if isinstance(error, errors.InvalidInputError) and error.errors:
        param = error.errors[0].field or None
    if isinstance(error, RefusedError):
        return _refused(error, status)
    return _body(status, error.message, code, param)


def internal(error: Exception) -> dict[str, Any]:
    """The `error` object of a fault of ours, which is logged."""
    log.error("request.failed", exc_info=error)
    return _body(500, "Internal error", "internal")


def _body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"message": message, "type": kind, "param": param, "code": code}


def _refused(error: RefusedError, status: int) -> dict[str, Any]:
    """A provider's refusal; its own words only where they are about the request."""
    if error.status in _CREDENTIAL_STATUS:
        log.warning("adapter.provider_refused_credentials", error=error.message)
        # Providers quote parts of the key they were sent.
        who = error.message.partition(" answered ")[0]
        return _body(status, f"{who} does not accept its credentials.", error.code)
    if status not in _CLIENTS_STATUS:
        return _body(status, error.message, error.code)
    usual = {404: "model_not_found", 429: "rate_limit_exceeded"}.get(status, "invalid_value")
    found = _body(status, error.message, usual)
    return {**found, **{k: v for k, v in error.details.items() if k in ("code", "param")}}


def _status_of(error: errors.SinasError) -> int:
    if not isinstance(error, RefusedError):
        # OpenAI answers 400 where the rest of the platform answers 422.
        return 400 if isinstance(error, errors.InvalidInputError) else status_of(error)
    if error.status in _CLIENTS_STATUS:
        return error.status
    if error.status in (503, 529):
        return 503
    return 400 if 400 <= error.status < 500 and _blames_request(error.status) else 502


def _blames_request(status: int) -> bool:
    return status not in _CREDENTIAL_STATUS and status != HTTPStatus.REQUEST_TIMEOUT


def _headers_of(error: errors.SinasError) -> dict[str, str]:
    match error:
        case errors.UnauthenticatedError():
            return {"WWW-Authenticate": "Bearer"}
        case errors.RateLimitedError() | errors.UnavailableError():
            return {"Retry-After": str(error.retry_after_seconds)}
        case RefusedError() if error.retry_after and _RETRY_AFTER.fullmatch(error.retry_after):
            return {"Retry-After": error.retry_after}
    return {}


async def _sinas_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.SinasError)
    return JSONResponse({"error": body_of(error)}, _status_of(error), _headers_of(error))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return await _sinas_error(request, BadParameterError(where or "body", str(first["msg"])))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error.__cause__, errors.SinasError):
        # FastAPI's "error parsing the body" for what our middleware raised while it was read.
        return await _sinas_error(request, error.__cause__)
    status = error.status_code
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(status, "http_error")
    path = request.scope.get("path", "")
    message = {
        404: f"Unknown request URL: {request.method} {path}.",
        405: f"Not allowed to {request.method} on {path}.",
    }.get(status, str(error.detail))
    found = {**_body(status, message, code), "type": "invalid_request_error"}
    return JSONResponse({"error": found}, status, error.headers)


async def _backend_error(request: Request, error: Exception) -> JSONResponse:
    found = meaning_of(error)
    if found is None:
        return JSONResponse({"error": _body(500, "Internal error", "internal")}, 500)
    return await _sinas_error(request, found)


async def _internal(request: Request, error: Exception) -> JSONResponse:
    request.scope["error_type"] = type(error).__qualname__  # for the request's span
    return JSONResponse({"error": internal(error)}, 500)


def install(app: FastAPI) -> None:
    """Make `app` answer every error in this shape."""
    app.add_exception_handler(errors.SinasError, _sinas_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    for kind in BACKEND_ERRORS:
        app.add_exception_handler(kind, _backend_error)
    app.add_exception_handler(Exception, _internal)
