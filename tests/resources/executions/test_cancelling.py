"""Cancelling: the code stops, with all it started, and nothing of it comes back."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import update

from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import Execution, ExecutionStatus
from sinas.resources.executions import attempts
from sinas.resources.executions.ending import failed
from sinas.resources.executions.jobs import SWEEPS
from sinas.resources.executions.service import CANCELLED
from sinas.worker import RunningWorker
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn
from tests.resources.executions.support import load, pending, queued, until

SLEEP = "import time\ndef handler(i, c):\n    time.sleep(60)"
SPIN = "def handler(i, c):\n    while True:\n        pass"
CALL = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + "/functions/default/inner/execute", b"{}",
        {"Authorization": "Bearer " + context["access_token"], "Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))
"""


async def cancel(client: httpx.AsyncClient, key: object) -> httpx.Response:
    return await client.post(f"/executions/{key}/cancel")


async def one_running(client: httpx.AsyncClient, **filters: str) -> dict[str, Any]:
    """Wait until one execution runs; its record."""
    async with asyncio.timeout(20):
        while True:
            params = {"status": "RUNNING", **filters}
            rows: list[dict[str, Any]] = (await client.get("/executions", params=params)).json()
            if rows:
                return rows[0]
            await asyncio.sleep(0.02)


async def quiet(worker: RunningWorker) -> None:
    """Wait until no code runs in the worker's sandboxes."""
    sandbox = worker.context.sandbox
    assert sandbox is not None
    async with asyncio.timeout(15):
        while sandbox.status().in_use or any(one.running for one in sandbox.status().shared):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("code", [SLEEP, SPIN])
async def test_running_code_is_killed_and_whoever_waits_is_told(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, code: str, shared: bool
) -> None:
    owner = await as_.user("user")
    await make_function(context, owner, code, name="f", shared_pool=shared, idempotent=True)
    client = await as_("user")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.post("/functions/default/f/execute", json={}))
        row = await one_running(client)
        answer = await cancel(client, row["id"])
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["error"]) == ("CANCELLED", CANCELLED)
        assert answer.json()["completed_at"] is not None
    assert call.result().json()["error"] == f"Function execution failed: {CANCELLED}"
    await quiet(function_worker)
    now = await load(context, row["id"])
    assert (now.status, now.attempt) == (ExecutionStatus.CANCELLED, 1)
    assert await pending(context, ":shared" if shared else "") == 0


async def test_what_waits_for_its_time_never_runs(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    body = {"delay_seconds": 1}
    started = await client.post("/functions/default/f/execute/async", json=body)
    key = started.json()["execution_id"]
    assert (await cancel(client, key)).status_code == 200
    async with asyncio.timeout(10):
        while await pending(context):
            await asyncio.sleep(0.05)
    row = await load(context, key)
    assert (row.status, row.attempt) == (ExecutionStatus.CANCELLED, 0)
    assert (await client.get(f"/jobs/{key}")).json()["status"] == "cancelled"


async def test_who_may_cancel_what(context: AppContext, as_: SignIn) -> None:
    function = await make_function(context, await as_.user("user"))
    row = await make_execution(context, function)
    ended = await make_execution(context, function, status=ExecutionStatus.COMPLETED)
    assert (await cancel(await as_("other"), row.id)).status_code == 404
    assert (await cancel(await as_("nobody"), row.id)).status_code == 403
    client = await as_("user")
    assert (await cancel(client, uuid4())).status_code == 404
    answer = await cancel(client, ended.id)
    assert answer.status_code == 409
    assert "has ended; it is COMPLETED" in answer.json()["detail"]
    assert (await cancel(await as_("admin"), row.id)).status_code == 200
    assert (await cancel(client, row.id)).status_code == 409


async def test_what_the_code_called_is_cancelled_with_it(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, live: str
) -> None:
    owner = await as_.user("user")
    await make_function(context, owner, CALL, name="outer")
    await make_function(context, owner, SLEEP, name="inner")
    beside = await make_function(context, owner)
    other = await make_execution(context, beside)
    client = await as_("user")
    started = await client.post("/functions/default/outer/execute/async", json={})
    outer = started.json()["execution_id"]
    inner = await one_running(client, function_name="inner")
    assert (inner["parent_execution_id"], inner["depth"]) == (outer, 2)
    assert (await cancel(client, outer)).status_code == 200
    assert (await load(context, inner["id"])).status is ExecutionStatus.CANCELLED
    await quiet(function_worker)
    assert (await load(context, outer)).status is ExecutionStatus.CANCELLED
    assert (await load(context, other)).status is ExecutionStatus.PENDING


async def test_one_that_waits_for_input_is_cancelled(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "def handler(i, c):\n    return input('What?')"
    await make_function(context, await as_.user("user"), code, name="f", shared_pool=True)
    client = await as_("user")
    asked = await client.post("/functions/default/f/execute", json={})
    key = asked.json()["execution_id"]
    assert (await load(context, key)).status is ExecutionStatus.AWAITING_INPUT
    answer = await cancel(client, key)
    assert (answer.json()["status"], answer.json()["prompt"]) == ("CANCELLED", None)
    await quiet(function_worker)
    answered = await client.post(f"/executions/{key}/continue", json={"input": {"value": "x"}})
    assert answered.status_code == 400


async def test_a_late_end_is_dropped(context: AppContext, as_: SignIn) -> None:
    function = await make_function(context, await as_.user("user"))
    row = await make_execution(context, function)
    worker = uuid4()
    assert await attempts.claim(context, row.id, worker) is not None
    assert (await cancel(await as_("user"), row.id)).status_code == 200
    late = failed("too late").columns()
    assert not await attempts.finish(context, row.id, worker, late)
    assert not await attempts.put_back(context, row.id, worker, late, timedelta(0))
    await SWEEPS[1].run(context)
    now = await load(context, row)
    assert (now.status, now.error) == (ExecutionStatus.CANCELLED, CANCELLED)


async def test_a_cancellation_nobody_heard_of_is_found_when_messages_come_again(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    function = await make_function(context, await as_.user("user"), SLEEP)
    rows = [await make_execution(context, function) for _ in range(2)]
    for row in rows:
        await queued(context, row)
        await until(context, row, ExecutionStatus.RUNNING)
    async with context.unit() as unit:
        await unit.session.execute(
            update(Execution)
            .where(Execution.id == rows[0].id)
            .values(status=ExecutionStatus.CANCELLED, completed_at=utcnow())
        )
    context.signals._resync()
    async with asyncio.timeout(10):
        while rows[0].id in function_worker.context.running.keys():  # noqa: SIM118
            await asyncio.sleep(0.02)
    assert function_worker.context.running.keys() == {rows[1].id}
