"""A claim whose answer got lost: the row must not stay with a worker that does not run it."""

import asyncio
from typing import Any

import pytest

from sinas.context import AppContext
from sinas.models import Execution, ExecutionStatus
from sinas.resources.executions import attempts
from sinas.resources.executions.jobs import push
from sinas.worker import RunningWorker
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn

CODE = "def handler(input_data, context):\n    return {'ran': True}\n"


async def test_a_claim_whose_answer_was_lost_is_taken_back_and_made_again(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = await as_("user")
    function = await make_function(context, await as_.user("user"), CODE)
    real = attempts.claim
    lost: list[Any] = []

    async def cut_off(*arguments: Any) -> Any:
        claimed = await real(*arguments)
        if not lost:
            lost.append(claimed)
            raise ConnectionError("the connection broke before the answer")
        return claimed

    monkeypatch.setattr(attempts, "claim", cut_off)
    execution = await make_execution(context, function, status=ExecutionStatus.PENDING)
    async with context.unit() as unit:
        push(unit, context.settings.function, execution.id, depth=1, shared=False)
    async with asyncio.timeout(20):
        while not lost:
            await asyncio.sleep(0.02)
        while (await row(context, execution.id)).status is not ExecutionStatus.PENDING:
            await asyncio.sleep(0.02)
    back = await row(context, execution.id)
    assert (back.attempt, back.lease_owner) == (0, None)
    async with context.unit() as unit:
        push(unit, context.settings.function, execution.id, depth=1, shared=False)
    async with asyncio.timeout(20):
        while (await row(context, execution.id)).status is not ExecutionStatus.COMPLETED:
            await asyncio.sleep(0.02)
    told = (await client.get(f"/executions/{execution.id}")).json()
    assert (told["output_data"], told["attempt"]) == ({"ran": True}, 1)


async def row(context: AppContext, key: Any) -> Execution:
    async with context.sessions() as session:
        return await session.get_one(Execution, key)
