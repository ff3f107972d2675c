"""Dependencies of every endpoint: context, transaction, caller, permission.

All are coroutines, also those that await nothing: FastAPI sends plain functions through a
thread pool of 40, which costs more than they do and stalls when the pool is full.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import ForbiddenError, UnauthenticatedError
from sinas.tracing.spans import About, current_span
from sinas.web.usage import UsageStamps, stamp

# Declared for the OpenAPI document; the credential itself is read in `caller`.
_bearer = HTTPBearer(auto_error=False, description="An access token or an API key.")
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")

_READ_METHODS = frozenset({"GET", "HEAD"})


async def app_context(request: Request) -> AppContext:
    """The process's context."""
    context: AppContext = request.app.state.context
    return context


Context = Annotated[AppContext, Depends(app_context)]


async def open_unit(request: Request, context: Context) -> AsyncIterator[Unit]:
    """One transaction, committed before the answer is sent.

    Reads have none: every statement sees what is committed when it begins, with BEGIN and COMMIT
    or without them, and those are two round trips.
    """
    reads = request.method in _READ_METHODS
    async with context.statement_unit() if reads else context.unit() as unit:
        yield unit


# Function scope: with the default, the commit would run after the response, and a failed commit
# would already have answered 2xx.
InUnit = Annotated[Unit, Depends(open_unit, scope="function")]


def credential_of(request: Request) -> str:
    """The API key or token of a request; `X-API-Key` wins.

    Raises:
        UnauthenticatedError: Neither header is there.
    """
    if key := request.headers.get("x-api-key"):
        return key
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise UnauthenticatedError("Missing authorization header")
    return value.strip()


async def caller(request: Request, context: Context) -> Principal:
    """Who calls, with the rights they hold at this moment."""
    principal, key_id = await context.authenticator.by_credential(credential_of(request))
    stamps: UsageStamps = request.app.state.stamps
    if key_id is not None and stamps.due(key_id):
        context.background.spawn("api_keys.stamp", stamp(context, key_id))
    request.scope["principal"] = principal
    span = current_span()
    if span.is_recording:
        span.belongs_to(About(user=str(principal.user_id)))
    return principal


# For routes that take nothing but the caller: what they may do, the service decides by row.
caller.permission = "authenticated"  # type: ignore[attr-defined]
Caller = Annotated[Principal, Depends(caller)]
# What the OpenAPI document says about credentials; `caller` reads the headers itself.
CREDENTIALS = [Depends(_bearer), Depends(_api_key)]


class Service(Protocol):
    """What `allowed` can construct."""

    def __init__(self, unit: Unit, principal: Principal) -> None: ...


S = TypeVar("S", bound=Service)


def permitted(resource: str, action: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, if there could be a row they may do `action` on.

    Which rows, the service and its repository decide. The function carries `permission`, so
    that a test finds routes without one.
    """

    async def check(principal: Caller) -> Principal:
        if not may_somewhere(principal, resource, action):
            raise ForbiddenError(
                f"Not authorized: this needs the permission 'sinas.{resource}.{action}'."
            )
        return principal

    check.permission = f"{resource}.{action}"  # type: ignore[attr-defined]
    return check


def permitted_everywhere(resource: str, action: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, if they hold the `:all` form: for what belongs to nobody."""

    async def check(principal: Caller) -> Principal:
        principal.require(f"sinas.{resource}.{action}:all")
        return principal

    check.permission = f"{resource}.{action}"  # type: ignore[attr-defined]
    return check


def may_somewhere(principal: Principal, resource: str, action: str) -> bool:
    """Whether any form of `sinas.<resource>…<action>` is held: path, pathless, own or all."""
    return principal.can(f"sinas.{resource}.{action}:own") or principal.can_somewhere(
        resource, action
    )


def allowed(service: type[S], resource: str, action: str) -> Callable[..., Awaitable[S]]:
    """A dependency: `service` for a permitted caller, in this request's transaction."""
    check = permitted(resource, action)

    async def build(unit: InUnit, principal: Annotated[Principal, Depends(check)]) -> S:
        return service(unit, principal)

    build.permission = f"{resource}.{action}"  # type: ignore[attr-defined]
    return build


def authenticated(service: type[S]) -> Callable[..., Awaitable[S]]:
    """A dependency: `service` for any signed-in caller, who sees only what is theirs."""

    async def build(unit: InUnit, principal: Caller) -> S:
        return service(unit, principal)

    build.permission = "authenticated"  # type: ignore[attr-defined]
    return build
