"""Runtime routes of executions."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Execution, ExecutionStatus, TriggerType
from sinas.resources.executions.events import ExecutionEnd
from sinas.resources.executions.pausing import Continuations
from sinas.resources.executions.schemas import (
    ExecutionContinue,
    ExecutionContinueRead,
    ExecutionRead,
)
from sinas.resources.executions.service import ExecutionFilter, ExecutionService
from sinas.web.deps import CREDENTIALS, Context, allowed, permitted
from sinas.web.ids import TextId
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/executions", tags=["executions"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)


def _upper(value: object) -> object:
    """Clients write statuses in either case."""
    return value.upper() if isinstance(value, str) else value


async def _continuations(
    principal: Annotated[Principal, Depends(permitted("executions", "update"))], context: Context
) -> Continuations:
    return Continuations(context, principal)


Continue = Annotated[Continuations, Depends(_continuations)]
Read = Annotated[ExecutionService, Depends(allowed(ExecutionService, "executions", "read"))]
Change = Annotated[ExecutionService, Depends(allowed(ExecutionService, "executions", "update"))]
Status = Annotated[
    ExecutionStatus | None, BeforeValidator(_upper), Query(description="In any case.")
]
Cause = Annotated[TriggerType | None, BeforeValidator(_upper), Query(description="In any case.")]


async def _filter(
    function_name: Annotated[str | None, Query(description="`name` or `namespace/name`.")] = None,
    status: Status = None,
    chat_id: UUID | None = None,
    trigger_type: Cause = None,
    parent_execution_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> ExecutionFilter:
    return ExecutionFilter(
        function=function_name,
        status=status,
        chat_id=chat_id,
        trigger_type=trigger_type,
        parent_execution_id=parent_execution_id,
        batch_id=batch_id,
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
async def get_execution(execution_id: TextId, executions: Read) -> Execution:
    """Get one execution."""
    return await executions.get(execution_id)


@router.post("/{execution_id}/continue")
async def continue_execution(
    execution_id: TextId, body: ExecutionContinue, continuations: Continue
) -> ExecutionContinueRead:
    """Answer what an execution asks with `input()`, and wait until it ends or asks again."""
    end = await continuations.answer(execution_id, body.input)
    return _continued(execution_id, end)


@router.get("/{execution_id}/steps", response_model=list[ExecutionRead])
async def list_steps(execution_id: TextId, executions: Read) -> Sequence[Execution]:
    """List the executions that the code of this one started, in the order they began."""
    return await executions.steps(execution_id)


def _continued(execution_id: UUID, end: ExecutionEnd | None) -> ExecutionContinueRead:
    completed = end is not None and end.status is ExecutionStatus.COMPLETED
    return ExecutionContinueRead(
        execution_id=execution_id,
        status=end.status if end else ExecutionStatus.RUNNING,
        output_data=end.result if end and completed else None,
        prompt=end.prompt if end else None,
        schema=None,
        error=end.error if end else None,
    )


@router.post("/{execution_id}/cancel", response_model=ExecutionRead)
async def cancel_execution(execution_id: TextId, executions: Change) -> Execution:
    """Cancel an execution and all it started: running code is killed. 409 when it has ended."""
    return await executions.cancel(execution_id)
