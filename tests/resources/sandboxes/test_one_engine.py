"""Two function workers on one Docker engine: what is one's is never the other's."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from sinas.context import AppContext
from sinas.models import Execution
from sinas.sandbox.image import connect
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed
from tests.support.operating import STATS, function_workers, shown

pytestmark = pytest.mark.docker
_CALLS = 12
# The engine mounts a file of its own into each container, below the container's id.
WHERE = """
import re, time

def handler(input_data, context):
    time.sleep(0.5)
    with open("/proc/self/mountinfo") as mounts:
        return re.search("/containers/([0-9a-f]{64})/", mounts.read())[1]
"""


@pytest.fixture
async def two(context: AppContext) -> AsyncIterator[list[RunningWorker]]:
    settings = changed(context.settings, sandbox={"backend": "docker", "max_size": 4})
    async with function_workers(dataclasses.replace(context, settings=settings), 2) as workers:
        yield workers


async def test_they_never_share_a_container(
    context: AppContext, as_: SignIn, two: list[RunningWorker]
) -> None:
    owner = await as_.user("user")
    for name, shared in (("own", False), ("shared", True)):
        await make_function(context, owner, WHERE, name=name, shared_pool=shared)
    client, admin = await as_("user"), await as_("admin")

    async def call(number: int) -> httpx.Response:
        name = "own" if number % 2 else "shared"
        return await client.post(f"/functions/default/{name}/execute", json={"input": {}})

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(number)) for number in range(_CALLS)]
    answers = [task.result().json() for task in calls]
    assert {answer["status"] for answer in answers} == {"success"}, answers

    engine = connect()
    try:
        labels = {
            each["Id"]: each["Labels"]
            for each in engine.api.containers(
                all=True,
                filters={"label": f"sinas.instance={context.settings.core.instance_id}"},
            )
        }
    finally:
        engine.close()
    worked = set()
    for answer in answers:
        async with context.sessions() as session:
            execution = await session.get_one(Execution, UUID(answer["execution_id"]))
        # The container a call ran in is labelled with the worker that took the call.
        assert labels[answer["result"]]["sinas.worker"] == str(execution.lease_owner)
        worked.add(execution.lease_owner)
    assert worked == {worker.context.worker_id for worker in two}

    stats = await shown(admin, STATS, lambda stats: stats["in_use"] == 0)
    by_worker: dict[str, set[str]] = {}
    for each in stats["idle_containers"]:
        by_worker.setdefault(each["worker_id"], set()).add(each["name"])
    for each in (await admin.get("/api/v1/workers")).json():
        by_worker.setdefault(each["worker_id"], set()).add(each["container_name"])
    assert by_worker.keys() == {str(worker.context.worker_id) for worker in two}
    first, second = by_worker.values()
    assert not first & second
