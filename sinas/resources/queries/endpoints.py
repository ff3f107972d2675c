"""Management operations of queries."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Query
from sinas.resources.queries.executing import Executing
from sinas.resources.queries.schemas import (
    QueryCreate,
    QueryExecute,
    QueryOutcome,
    QueryRead,
    QueryUpdate,
)
from sinas.resources.queries.service import QueryService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/queries", tags=["queries"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[QueryService, Depends(allowed(QueryService, "queries", "create"))]
Read = Annotated[QueryService, Depends(allowed(QueryService, "queries", "read"))]
Update = Annotated[QueryService, Depends(allowed(QueryService, "queries", "update"))]
Delete = Annotated[QueryService, Depends(allowed(QueryService, "queries", "delete"))]


@router.post("", status_code=201, response_model=QueryRead)
async def create_query(data: QueryCreate, queries: Create) -> Query:
    """Save a query, owned by the caller.

    Whoever executes it does so with the rights of its database connection.
    """
    return await queries.create(data)


@router.get("", response_model=list[QueryRead])
async def list_queries(
    queries: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Query]:
    """List the queries the caller may read, newest first, inactive ones included."""
    return await queries.listed(namespace, skip=skip, limit=limit)


@router.get("/{namespace}/{name}", response_model=QueryRead)
async def get_query(namespace: str, name: str, queries: Read) -> Query:
    """Get one query."""
    return await queries.get(namespace, name)


@router.put("/{namespace}/{name}", response_model=QueryRead)
async def update_query(namespace: str, name: str, data: QueryUpdate, queries: Update) -> Query:
    """Change a query; fields left out stay as they are."""
    return await queries.update(namespace, name, data)


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_query(namespace: str, name: str, queries: Delete) -> None:
    """Delete a query; its name is free again."""
    await queries.delete(namespace, name)


@router.post("/{namespace}/{name}/execute", response_model=QueryOutcome)
async def execute_query(
    namespace: str, name: str, data: QueryExecute, executor: Executing
) -> Response:
    """Run a query and wait for its rows. It is cancelled when the client leaves."""
    return await executor.run(namespace, name, data)
