"""Functions that call functions: how deep, in which lanes, and with which token."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from sinas.auth.tokens import AccessClaims
from sinas.context import AppContext
from sinas.models import ExecutionStatus, Function, TriggerType
from sinas.resources.executions.jobs import execute
from sinas.resources.executions.service import ExecutionService, Trigger
from sinas.sandbox.base import Ask, Invocation, Outcome, Returned
from sinas.worker import RunningWorker, open_worker
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed
from tests.fixtures.state import in_own_task
from tests.resources.executions.support import until

# Calls itself `n` more times and answers how deep it came.
NEST = """
import json, urllib.error, urllib.request
def handler(input_data, context):
    left = input_data["n"]
    if not left:
        return 1
    request = urllib.request.Request(
        context["api_url"] + "/functions/default/" + input_data.get("via", "nest") + "/execute",
        json.dumps({"input": {"n": left - 1}}).encode(),
        {"Authorization": "Bearer " + context["access_token"], "Content-Type": "application/json"},
    )
    try:
        answer = json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)]
    result = answer["result"]
    return result + 1 if isinstance(result, int) else result or answer
"""
ME = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + "/executions/" + context["execution_id"],
        headers={"Authorization": "Bearer " + context["access_token"]},
    )
    return json.load(urllib.request.urlopen(request))["trigger_type"]
"""


@asynccontextmanager
async def small_worker(context: AppContext, **queue: int) -> AsyncIterator[RunningWorker]:
    """A function worker with few slots."""
    settings = changed(context.settings, queue=queue)
    small = dataclasses.replace(context, settings=settings)
    async with in_own_task(open_worker("functions", small)) as worker:
        yield worker


async def results_of(
    client: httpx.AsyncClient, names: Sequence[str], given: dict[str, Any]
) -> list[Any]:
    """What calls of these functions return that are made at the same moment."""
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(
                client.post(f"/functions/default/{name}/execute", json={"input": given})
            )
            for name in names
        ]
    return [call.result().json()["result"] for call in calls]


async def test_callers_that_wait_for_callees_never_fill_a_worker(
    context: AppContext, as_: SignIn, live: str
) -> None:
    await make_function(context, await as_.user("user"), NEST, name="nest")
    client = await as_("user")
    async with small_worker(context, function_concurrency=2, nested_concurrency=1):
        results = await results_of(client, ["nest"] * 5, {"n": 3})
    assert results == [4] * 5


async def test_shared_and_plain_functions_wait_for_each_other(
    context: AppContext, as_: SignIn, live: str
) -> None:
    owner = await as_.user("user")
    await make_function(context, owner, NEST, name="nest")
    await make_function(context, owner, NEST, name="shared", shared_pool=True)
    client = await as_("user")
    few = {"function_concurrency": 1, "nested_concurrency": 1, "shared_concurrency": 1}
    async with small_worker(context, **few):
        results = await results_of(client, ["nest", "shared"] * 2, {"n": 2, "via": "shared"})
    assert results == [3] * 4


async def test_a_chain_has_an_end(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, live: str
) -> None:
    await make_function(context, await as_.user("user"), NEST, name="nest")
    client = await as_("user")
    answer = await client.post("/functions/default/nest/execute", json={"input": {"n": 9}})
    [code, problem] = answer.json()["result"]
    assert (code, problem["code"]) == (400, "depth_exceeded")
    assert "MAX_EXECUTION_DEPTH" in problem["detail"]
    rows = (await client.get("/executions")).json()
    assert sorted(row["depth"] for row in rows) == [1, 2, 3, 4]
    chain = {row["id"]: row["parent_execution_id"] for row in rows}
    assert sum(parent in chain for parent in chain.values()) == 3
    [child] = (
        await client.get(
            "/executions", params={"parent_execution_id": answer.json()["execution_id"]}
        )
    ).json()
    assert child["depth"] == 2


@pytest.mark.parametrize(("limit", "seconds"), [(60, 60 + 300), (86_400, 86_400)])
async def test_the_token_lives_as_long_as_the_run_may(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    limit: int,
    seconds: int,
) -> None:
    function = await make_function(context, await as_.user("user"))
    row = await make_execution(context, function, timeout_seconds=limit, depth=2)
    signer: Any = Minted()
    app = dataclasses.replace(context, signer=signer)
    sandbox: Any = Anything()
    worker = dataclasses.replace(function_worker.context, app=app, sandbox=sandbox)
    await execute.run(worker, str(row.id))
    [(claims, lifetime)] = signer.minted
    assert lifetime == timedelta(seconds=seconds)
    assert (claims.execution_id, claims.depth) == (row.id, 2)


class Minted:
    """Remembers what it was asked to sign."""

    def __init__(self) -> None:
        self.minted: list[tuple[AccessClaims, timedelta]] = []

    def mint(self, claims: AccessClaims, lifetime: timedelta) -> str:
        self.minted.append((claims, lifetime))
        return "token"


class Anything:
    """A sandbox in which every call returns null."""

    async def run(self, invocation: Invocation, ask: Ask | None = None) -> Outcome:
        return Returned(value=None)


async def caused(context: AppContext, as_: SignIn, function: Function, cause: TriggerType) -> UUID:
    principal = await context.authenticator.by_user((await as_.user("user")).id)
    async with context.unit() as unit:
        service = ExecutionService(unit, principal)
        trigger = Trigger(type=cause, id="test")
        started = await service.start(function, {}, trigger, context.settings.function)
    return started.execution_id


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("backend", ["process", pytest.param("docker", marks=pytest.mark.docker)])
async def test_calling_back_works_whatever_caused_the_call(
    context: AppContext, as_: SignIn, live: str, backend: str, shared: bool
) -> None:
    function = await make_function(
        context, await as_.user("user"), ME, name="me", shared_pool=shared
    )
    settings = changed(context.settings, sandbox={"backend": backend})
    chosen = dataclasses.replace(context, settings=settings)
    async with in_own_task(open_worker("functions", chosen)):
        keys = {cause: await caused(context, as_, function, cause) for cause in TriggerType}
        for cause, key in keys.items():
            row = await until(context, key, ExecutionStatus.COMPLETED)
            assert row.output_data == cause.value
