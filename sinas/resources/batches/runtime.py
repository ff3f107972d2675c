"""Runtime routes of batches, and the key that callbacks are signed with."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from sinas.auth.principal import Principal
from sinas.egress.callbacks import SIGNATURE_HEADER, callback_key
from sinas.models import ExecutionStatus
from sinas.resources.batches.chats import ChatBatchService
from sinas.resources.batches.schemas import (
    BatchCancelled,
    BatchExecutions,
    BatchRead,
    BatchSubmit,
    BatchSubmitted,
    CallbackKeyRead,
    ChatBatchSubmit,
    ChatBatchSubmitted,
)
from sinas.resources.batches.service import BatchService
from sinas.web.deps import CREDENTIALS, Caller, Context, InUnit, permitted
from sinas.web.ids import TextId
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["batches"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Executor = Annotated[Principal, Depends(permitted("functions", "execute"))]


async def _submitting(unit: InUnit, context: Context, principal: Executor) -> BatchService:
    return BatchService(unit, principal, context.settings.function)


async def _submitting_chats(unit: InUnit, context: Context, principal: Caller) -> ChatBatchService:
    return ChatBatchService(unit, principal, context.settings)


async def _reading(
    unit: InUnit,
    context: Context,
    principal: Annotated[Principal, Depends(permitted("executions", "read"))],
) -> BatchService:
    return BatchService(unit, principal, context.settings.function)


async def _changing(
    unit: InUnit,
    context: Context,
    principal: Annotated[Principal, Depends(permitted("executions", "update"))],
) -> BatchService:
    return BatchService(unit, principal, context.settings.function)


# Which agents they may chat with, the service decides by name, as for a single chat.
_submitting_chats.permission = "authenticated"  # type: ignore[attr-defined]
Submit = Annotated[BatchService, Depends(_submitting)]
SubmitChats = Annotated[ChatBatchService, Depends(_submitting_chats)]
Read = Annotated[BatchService, Depends(_reading)]
Change = Annotated[BatchService, Depends(_changing)]
Status = Annotated[
    ExecutionStatus | None,
    BeforeValidator(lambda given: given.upper() if isinstance(given, str) else given),
    Query(description="In any case."),
]


@router.post("/functions/{namespace}/{name}/execute/batch", status_code=202)
async def submit_batch(
    namespace: str, name: str, body: BatchSubmit, batches: Submit
) -> BatchSubmitted:
    """Queue one call of a function for each input.

    An input that breaks the function's schema becomes a failed execution; the others go on.
    """
    return await batches.submit(namespace, name, body)


@router.post("/agents/{namespace}/{agent_name}/chats/batch", status_code=202)
async def submit_chats(
    namespace: str, agent_name: str, body: ChatBatchSubmit, batches: SubmitChats
) -> ChatBatchSubmitted:
    """Queue a message to an agent for each input, each in a chat of its own.

    Input that breaks the agent's schema fails alone, and so does a turn whose tool call needs
    approval: there is nobody to ask.
    """
    return await batches.submit(namespace, agent_name, body)


@router.get("/batches/{batch_id}")
async def get_batch(batch_id: TextId, batches: Read) -> BatchRead:
    """Get a batch with the numbers of its executions, or turns, by status."""
    return await batches.get(batch_id)


@router.get("/batches/{batch_id}/executions")
async def list_batch_executions(
    batch_id: TextId,
    batches: Read,
    status: Status = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> BatchExecutions:
    """List the executions, or turns, of a batch, in the order of their inputs."""
    found = await batches.executions(batch_id, status=status, offset=offset, limit=limit)
    return BatchExecutions(executions=list(found))


@router.post("/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: TextId, batches: Change) -> BatchCancelled:
    """Cancel what has not ended; running code, and what an agent does, is stopped."""
    return await batches.cancel(batch_id)


@router.get("/callbacks/key")
async def get_callback_key(principal: Executor, context: Context) -> CallbackKeyRead:
    """Get the key that callbacks about your executions and batches are signed with."""
    secret = context.settings.auth.secret_key.get_secret_value()
    return CallbackKeyRead(key=callback_key(secret, principal.user_id), header=SIGNATURE_HEADER)
