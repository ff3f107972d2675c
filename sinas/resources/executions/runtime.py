"""Runtime routes of executions."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Execution, ExecutionStatus, TriggerType
from sinas.resources.executions.schemas import ExecutionRead
from sinas.resources.executions.service import ExecutionFilter, ExecutionService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/executions", tags=["executions"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _upper(value: object) -> object:
    """Clients write statuses in either case."""
    return value.upper() if isinstance(value, str) else value


Read = Annotated[ExecutionService, Depends(allowed(ExecutionService, "executions", "read"))]
Status = Annotated[
    ExecutionStatus | None, BeforeValidator(_upper), Query(description="In any case.")
]
Cause = Annotated[TriggerType | None, BeforeValidator(_upper), Query(description="In any case.")]


async def _filter(
    function_name: Annotated[str | None, Query(description="`name` or `namespace/name`.")] = None,
    status: Status = None,
    chat_id: UUID | None = None,
    trigger_type: Cause = None,
) -> ExecutionFilter:
    return ExecutionFilter(
        function=function_name, status=status, chat_id=chat_id, trigger_type=trigger_type
    )


@router.get("", response_model=list[ExecutionRead])
async def list_executions(
    executions: Read,
    wanted: Annotated[ExecutionFilter, Depends(_filter)],
    skip: SkipQuery = 0,
    limit: LimitQuery = 100,
) -> Sequence[Execution]:
    """List executions, newest start first: your own, or all with `sinas.executions.read:all`."""
    return await executions.page(wanted, skip=skip, limit=limit)


@router.get("/{execution_id}", response_model=ExecutionRead)
async def get_execution(execution_id: UUID, executions: Read) -> Execution:
    """Get one execution."""
    return await executions.get(execution_id)


@router.get("/{execution_id}/steps", response_model=list[ExecutionRead])
async def list_steps(execution_id: UUID, executions: Read) -> Sequence[Execution]:
    """List the executions that the code of this one started, in the order they began."""
    return await executions.steps(execution_id)
