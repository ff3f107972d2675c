"""Runtime routes of functions: calling them, and finding out which there are."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response

from sinas.auth.principal import Principal
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.egress.callbacks import check_callback_url
from sinas.kit.crypto import sha256_hex
from sinas.kit.ids import uuid7
from sinas.models import Function, TriggerType
from sinas.resources.executions.events import ExecutionEnd
from sinas.resources.executions.service import Trigger
from sinas.resources.functions.calls import FunctionCalls
from sinas.resources.functions.schemas import (
    FunctionExecute,
    FunctionExecuteAsync,
    FunctionExecuteAsyncRead,
    FunctionExecuteRead,
    FunctionRead,
)
from sinas.resources.functions.service import FunctionService
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, Context, InUnit, permitted
from sinas.web.icons import Icons
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["functions"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

_RUNTIME_API = "runtime-api"
_REPLAYED = "Idempotency-Replayed"


async def _calls(
    principal: Annotated[Principal, Depends(permitted("functions", "execute"))], context: Context
) -> FunctionCalls:
    return FunctionCalls(context, principal)


async def _functions(
    unit: InUnit,
    principal: Annotated[Principal, Depends(permitted("functions", "read"))],
    context: Context,
) -> FunctionService:
    return FunctionService(unit, principal, context.settings.function)


Calls = Annotated[FunctionCalls, Depends(_calls)]
Discovery = Annotated[FunctionService, Depends(_functions)]


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Names the call: a second one of yours with the same key, to the same "
        "function, is the first one, and its answer has `Idempotency-Replayed: true`. With "
        "another input it is refused with 422.",
    ),
]


@router.post("/functions/{namespace}/{name}/execute")
async def execute_function(
    namespace: str,
    name: str,
    body: FunctionExecute,
    calls: Calls,
    response: Response,
    key: IdempotencyKey = None,
) -> FunctionExecuteRead:
    """Call a function and wait for its result.

    Input that breaks the function's schema is answered with 422 and recorded as a failed
    execution, named in `X-Execution-ID`. `timeout` limits only the wait: the answer is then
    `timeout`, and `GET /executions/{execution_id}` tells how the call ended. Where the code asks
    with `input()`, the result is `{"status": "awaiting_input", "execution_id", "prompt"}`;
    `POST /executions/{execution_id}/continue` answers it.
    """
    trigger = Trigger(
        type=TriggerType.API,
        id=body.trigger_id or _RUNTIME_API,
        client_key=key or _named(body),
    )
    fresh = uuid7()
    execution_id, end = await calls.run(
        namespace, name, body.input, trigger, execution_id=fresh, wait_seconds=body.timeout
    )
    if execution_id != fresh:
        response.headers[_REPLAYED] = "true"
    return _answer(execution_id, end)


@router.post(
    "/functions/{namespace}/{name}/execute/async",
    status_code=202,
)
async def execute_function_async(
    namespace: str,
    name: str,
    body: FunctionExecuteAsync,
    calls: Calls,
    response: Response,
    key: IdempotencyKey = None,
) -> FunctionExecuteAsyncRead:
    """Queue a call of a function. Its input is validated first, as for a call that waits."""
    trigger = _background(body, key, calls.context.settings.function.callback_url_hosts)
    started = await calls.start(namespace, name, body.input, trigger)
    if not started.is_new:
        response.headers[_REPLAYED] = "true"
    return FunctionExecuteAsyncRead(execution_id=started.execution_id, status="queued")


@router.get("/functions", response_model=list[FunctionRead])
@router.get("/discovery/functions", response_model=list[FunctionRead])
async def discover_functions(
    functions: Discovery,
    icons: Icons,
    _: Application,
    skip: SkipQuery = 0,
    limit: LimitQuery = 1000,
) -> Sequence[Function]:
    """List the active functions you may read, by name."""
    return await icons.on_all(await functions.discover(skip=skip, limit=limit))


def _background(body: FunctionExecuteAsync, key: str | None, callback_hosts: str) -> Trigger:
    if body.callback_url is not None:
        check_callback_url(callback_hosts, body.callback_url)
    return Trigger(
        type=TriggerType.API,
        id=body.trigger_id or _RUNTIME_API,
        client_key=key or _named(body),
        background=True,
        delay=timedelta(seconds=body.delay_seconds or 0),
        callback_url=body.callback_url,
    )


def _named(body: FunctionExecute) -> str | None:
    """The call as its trigger id names it: together with its input.

    Clients know the id as a mark of theirs that may come again. The same call sent once more is
    the first one; the same mark on another call is not.
    """
    if body.trigger_id is None:
        return None
    try:
        text = json.dumps(body.input, sort_keys=True)
    except RecursionError:
        return None  # refused as input, too
    return f"{body.trigger_id} {sha256_hex(text)}"


def _answer(execution_id: UUID, end: ExecutionEnd | None) -> FunctionExecuteRead:
    if end is None:
        return FunctionExecuteRead(
            status="timeout",
            execution_id=execution_id,
            result=None,
            error="The call did not end in time; it goes on, and its execution tells how it ends.",
        )
    if end.has_result:
        return FunctionExecuteRead(
            status="success", execution_id=execution_id, result=end.result, error=None
        )
    return FunctionExecuteRead(
        status="error",
        execution_id=execution_id,
        result=None,
        error=f"Function execution failed: {end.error or end.status.lower()}",
    )
