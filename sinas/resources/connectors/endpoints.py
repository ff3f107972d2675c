"""Management operations of connectors."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Connector
from sinas.resources.connectors.answers import CallResult
from sinas.resources.connectors.calls import ConnectorCalls
from sinas.resources.connectors.importing import Imported, Imports
from sinas.resources.connectors.oauth import (
    BROWSER_COOKIE,
    CALLBACK_PATH,
    STATE_SECONDS,
    Authorizations,
    Connection,
    Started,
)
from sinas.resources.connectors.schemas import (
    AuthorizationRead,
    AuthorizationStart,
    ConnectorCreate,
    ConnectorRead,
    ConnectorTestRequest,
    ConnectorTestResponse,
    ConnectorUpdate,
    OpenAPIImportRequest,
    OpenAPIImportResponse,
)
from sinas.resources.connectors.service import ConnectorService
from sinas.web.deps import CREDENTIALS, Context, allowed, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/connectors", tags=["connectors"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[ConnectorService, Depends(allowed(ConnectorService, "connectors", "create"))]
Read = Annotated[ConnectorService, Depends(allowed(ConnectorService, "connectors", "read"))]
Update = Annotated[ConnectorService, Depends(allowed(ConnectorService, "connectors", "update"))]
Delete = Annotated[ConnectorService, Depends(allowed(ConnectorService, "connectors", "delete"))]


async def _calls(
    context: Context, principal: Annotated[Principal, Depends(permitted("connectors", "read"))]
) -> ConnectorCalls:
    # Without the request's transaction, which would be open as long as the service takes.
    return ConnectorCalls(context, principal)


async def _parsing(
    context: Context, principal: Annotated[Principal, Depends(permitted("connectors", "create"))]
) -> Imports:
    return Imports(context, principal)


async def _importing(
    context: Context, principal: Annotated[Principal, Depends(permitted("connectors", "update"))]
) -> Imports:
    return Imports(context, principal)


async def _authorizations(
    context: Context, principal: Annotated[Principal, Depends(permitted("connectors", "read"))]
) -> Authorizations:
    # Without the request's transaction: nothing here needs one as long as the request.
    return Authorizations(context, principal)


Parsing = Annotated[Imports, Depends(_parsing)]
Importing = Annotated[Imports, Depends(_importing)]
Mine = Annotated[Authorizations, Depends(_authorizations)]
Calls = Annotated[ConnectorCalls, Depends(_calls)]


@router.post("", status_code=201, response_model=ConnectorRead)
async def create_connector(data: ConnectorCreate, connectors: Create) -> Connector:
    """Create a connector, owned by the caller."""
    return await connectors.create(data)


@router.get("", response_model=list[ConnectorRead])
async def list_connectors(
    connectors: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Connector]:
    """List the connectors the caller may read, newest first, inactive ones included."""
    return await connectors.listed(namespace, skip=skip, limit=limit)


@router.post("/parse-openapi", response_model=OpenAPIImportResponse)
async def parse_openapi(data: OpenAPIImportRequest, imports: Parsing) -> Imported:
    """Show the operations an OpenAPI 3.0 or 3.1 document describes. Nothing is stored."""
    return await imports.parse(data)


@router.get("/{namespace}/{name}", response_model=ConnectorRead)
async def get_connector(namespace: str, name: str, connectors: Read) -> Connector:
    """Get one connector with its operations."""
    return await connectors.get(namespace, name)


@router.put("/{namespace}/{name}", response_model=ConnectorRead)
async def update_connector(
    namespace: str, name: str, data: ConnectorUpdate, connectors: Update
) -> Connector:
    """Change a connector; fields left out stay as they are. `operations` are all of them."""
    return await connectors.update(namespace, name, data)


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_connector(namespace: str, name: str, connectors: Delete) -> None:
    """Delete a connector and what users allowed it. Agents that name it go on without it."""
    await connectors.delete(namespace, name)


@router.post("/{namespace}/{name}/import-openapi", response_model=OpenAPIImportResponse)
async def import_openapi(
    namespace: str, name: str, data: OpenAPIImportRequest, imports: Importing
) -> Imported:
    """Take operations from an OpenAPI document; with `apply`, store them in the connector.

    Operations of the same name are replaced, others stay. Address and `auth` are not changed.
    """
    return await imports.into(namespace, name, data)


@router.post("/{namespace}/{name}/test/{operation_name}", response_model=ConnectorTestResponse)
async def test_operation(
    namespace: str, name: str, operation_name: str, data: ConnectorTestRequest, calls: Calls
) -> CallResult:
    """Call an operation with the caller's credentials, and show what the service answers.

    Error statuses of the service are results; 502 means that there was no answer.
    """
    return await calls.test(namespace, name, operation_name, data.parameters)


@router.post("/{namespace}/{name}/oauth/authorize", response_model=AuthorizationStart)
async def start_authorization(
    namespace: str, name: str, request: Request, response: Response, context: Context, mine: Mine
) -> Started:
    """Begin to ask the caller's permission at the service (OAuth 2.0, authorization code).

    Open `authorize_url` in the browser that sent this request: it got a cookie, without which
    the way back is refused (OAUTH_BIND_BROWSER_SESSION).
    """
    base = context.settings.core.public_url or str(request.base_url)
    redirect_uri = base.rstrip("/").removesuffix("/api/v1") + CALLBACK_PATH
    started = await mine.start(namespace, name, redirect_uri)
    response.set_cookie(
        BROWSER_COOKIE,
        started.browser,
        max_age=STATE_SECONDS,
        path=urlsplit(redirect_uri).path,
        secure=redirect_uri.startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return started


@router.get("/{namespace}/{name}/oauth", response_model=AuthorizationRead)
async def get_authorization(namespace: str, name: str, mine: Mine) -> Connection:
    """Show whether the caller allowed the connector to act for them. Tokens are never shown."""
    return await mine.show(namespace, name)


@router.delete("/{namespace}/{name}/oauth", status_code=204)
async def delete_authorization(namespace: str, name: str, mine: Mine) -> None:
    """Take the permission back: the caller's tokens are deleted. The service is not told."""
    await mine.forget(namespace, name)
