"""Runtime operations of queries."""

from fastapi import APIRouter, Response

from sinas.resources.queries.executing import Executing
from sinas.resources.queries.schemas import QueryExecute, QueryOutcome
from sinas.web.deps import CREDENTIALS
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/queries",
    tags=["runtime-queries"],
    responses=PROBLEM_RESPONSES,
    dependencies=CREDENTIALS,
)


@router.post("/{namespace}/{name}/execute", response_model=QueryOutcome)
async def execute_query(
    namespace: str, name: str, data: QueryExecute, executor: Executing
) -> Response:
    """Run a query and wait for its rows. It is cancelled when the client leaves."""
    return await executor.run(namespace, name, data)
