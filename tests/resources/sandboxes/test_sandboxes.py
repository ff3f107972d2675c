"""Stats, scaling and reloading of both pools, over all function workers, through HTTP."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, insert

from sinas.context import AppContext
from sinas.models import Worker
from sinas.queue import commands
from sinas.queue.job import Queue
from sinas.resources.sandboxes.service import shares
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn
from tests.support.operating import SLEEP, STATS, function_workers, names, shown

WORKERS = "/api/v1/workers"
BACKEND = "/api/v1/containers"
NOBODY = (
    (f"{WORKERS}/scale", {"target_count": 1}),
    (f"{WORKERS}/reload", None),
    (f"{BACKEND}/scale", {"target": 1}),
    (f"{BACKEND}/reload", None),
)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def one(context: AppContext) -> AsyncIterator[RunningWorker]:
    async with function_workers(context, 1) as (worker,):
        yield worker


@pytest.fixture
async def two(context: AppContext) -> AsyncIterator[list[RunningWorker]]:
    async with function_workers(context, 2) as workers:
        yield workers


async def test_without_a_function_worker(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(WORKERS)).json() == []
    assert (await admin.get(f"{WORKERS}/count")).json() == {"count": 0}
    stats = (await admin.get(STATS)).json()
    assert (stats["total"], stats["max_size"], stats["idle_containers"]) == (0, 0, [])
    for path, body in NOBODY:
        answer = await admin.post(path, json=body)
        assert answer.status_code == 503
        assert "No function worker runs" in answer.json()["detail"]


async def test_stats_are_of_all_workers(
    admin: httpx.AsyncClient, two: list[RunningWorker], context: AppContext
) -> None:
    stats = (await admin.get(STATS)).json()
    assert stats.keys() == {
        *("idle", "in_use", "total", "max_size", "min_idle", "max_executions"),
        *("idle_containers", "in_use_containers"),
    }
    sandbox = context.settings.sandbox
    assert (stats["idle"], stats["in_use"], stats["total"]) == (2, 0, 2)
    assert stats["max_size"] == 2 * sandbox.max_size
    assert stats["min_idle"] == 2 * sandbox.min_idle
    assert stats["max_executions"] == sandbox.max_executions
    container = stats["idle_containers"][0]
    assert container.keys() == {"name", "status", "executions", "age_seconds", "worker_id"}
    assert (container["status"], container["executions"]) == ("running", 0)
    assert container["age_seconds"] >= 0
    expected = {
        str(worker.context.worker_id): {m.name for m in worker.context.sandbox.status().idle}
        for worker in two
        if worker.context.sandbox
    }
    found: dict[str, set[str]] = {}
    for each in stats["idle_containers"]:
        found.setdefault(each["worker_id"], set()).add(each["name"])
    assert found == expected
    assert len(names(stats)) == 2


async def test_shared_containers_are_of_all_workers(
    admin: httpx.AsyncClient, two: list[RunningWorker]
) -> None:
    listed = (await admin.get(WORKERS)).json()
    assert (await admin.get(f"{WORKERS}/count")).json() == {"count": 2}
    assert {one["worker_id"] for one in listed} == {str(w.context.worker_id) for w in two}
    assert len({one["id"] for one in listed} | {one["container_name"] for one in listed}) == 4
    first = listed[0]
    assert first.keys() == {
        *("id", "container_name", "status", "created_at", "executions", "running", "worker_id")
    }
    assert first["id"].startswith("worker-")
    assert first["container_name"].startswith("sinas-shared-")
    assert (first["status"], first["executions"], first["running"]) == ("running", 0, 0)


async def test_calls_are_counted(
    admin: httpx.AsyncClient, as_: SignIn, one: RunningWorker, context: AppContext
) -> None:
    owner = await as_.user("user")
    for name, shared in (("own", False), ("shared", True)):
        await make_function(context, owner, name=name, shared_pool=shared)
    client = await as_("user")
    for name in ("own", "shared", "shared"):
        answer = await client.post(f"/functions/default/{name}/execute", json={"input": {}})
        assert answer.json()["status"] == "success", answer.text
    stats = await shown(admin, STATS, lambda stats: stats["idle"] == 1)
    assert [each["executions"] for each in stats["idle_containers"]] == [1]
    listed = await shown(admin, WORKERS, lambda all_: all_[0]["running"] == 0)
    assert [each["executions"] for each in listed] == [2]


async def test_a_worker_that_does_not_answer_is_shown_as_it_was_last(
    admin: httpx.AsyncClient,
    one: RunningWorker,
    context: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "_ABSENT_SECONDS", 0.3)
    assert one.context.sandbox is not None
    status = asdict(one.context.sandbox.status())
    for member in (*status["idle"], *status["shared"]):
        member["name"] += "-elsewhere"
        member["age_seconds"] = 600
    silent = uuid4()
    async with context.unit() as unit:
        await unit.session.execute(
            insert(Worker).values(
                id=silent,
                queue=Queue.FUNCTIONS,
                hostname="elsewhere",
                pid=1,
                max_jobs=1,
                lease_until=func.clock_timestamp() + timedelta(minutes=1),
                info={"sandbox": {**status, "warnings": list(status["warnings"])}},
            )
        )
    stats = (await admin.get(STATS)).json()
    assert stats["total"] == 2
    assert {each["worker_id"] for each in stats["idle_containers"]} == {
        str(silent),
        str(one.context.worker_id),
    }
    answer = await admin.post(f"{WORKERS}/reload")
    workers = answer.json()["workers"]
    assert (workers["status"], workers["success"], workers["failed"]) == ("partial", 1, 1)
    assert str(silent) in workers["errors"][0]
    answer = await admin.post(f"{WORKERS}/scale", json={"target_count": 2})
    assert answer.status_code == 503
    assert str(silent) in answer.json()["detail"]


@pytest.mark.parametrize(
    ("target", "have", "expected"),
    [
        (4, [1, 1], [2, 2]),
        (3, [1, 2], [1, 2]),
        (3, [0, 0], [2, 1]),
        (0, [2, 2], [0, 0]),
        (10, [4, 0, 4], [4, 3, 3]),
    ],
)
def test_shares_are_even_and_the_larger_ones_go_where_most_is(
    target: int, have: list[int], expected: list[int]
) -> None:
    workers = [UUID(int=number) for number in range(len(have))]
    shared_out = shares(target, dict(zip(workers, have, strict=True)))
    assert [shared_out[worker] for worker in workers] == expected


async def test_scaling_the_shared_pool(admin: httpx.AsyncClient, two: list[RunningWorker]) -> None:
    async def scale(target: int) -> dict[str, Any]:
        answer = await admin.post(f"{WORKERS}/scale", json={"target_count": target})
        assert answer.status_code == 200, answer.text
        scaled: dict[str, Any] = answer.json()
        assert (await admin.get(f"{WORKERS}/count")).json() == {"count": target}
        return scaled

    up = {"action": "scale_up", "previous_count": 2, "current_count": 5, "added": 3, "removed": 0}
    assert await scale(5) == up
    each = [worker.context.sandbox.status() for worker in two if worker.context.sandbox]
    assert sorted(len(status.shared) for status in each) == [2, 3]
    same = {"action": "no_change", "previous_count": 5, "current_count": 5}
    assert await scale(5) == {**same, "added": 0, "removed": 0}
    down = {"action": "scale_down", "previous_count": 5, "current_count": 0}
    assert await scale(0) == {**down, "added": 0, "removed": 5}


async def test_scaling_the_sandboxes(admin: httpx.AsyncClient, two: list[RunningWorker]) -> None:
    async def scale(target: int) -> dict[str, Any]:
        answer = await admin.post(f"{BACKEND}/scale", json={"target": target})
        assert answer.status_code == 200, answer.text
        scaled: dict[str, Any] = answer.json()
        assert (await admin.get(STATS)).json()["idle"] == target
        return scaled

    up = {"action": "scale_up", "previous": 2, "current": 5, "added": 3, "removed": 0}
    assert await scale(5) == up
    same = {"action": "no_change", "previous": 5, "current": 5, "added": 0, "removed": 0}
    assert await scale(5) == same
    down = {"action": "scale_down", "previous": 5, "current": 1, "added": 0, "removed": 4}
    assert await scale(1) == down


async def test_sizes_that_cannot_be(
    admin: httpx.AsyncClient, two: list[RunningWorker], context: AppContext
) -> None:
    most = 2 * context.settings.sandbox.max_size
    cases: list[tuple[str, str, Any, int]] = [
        (f"{WORKERS}/scale", "target_count", -1, 400),
        (f"{WORKERS}/scale", "target_count", 11, 400),
        (f"{WORKERS}/scale", "target_count", "many", 422),
        (f"{BACKEND}/scale", "target", -1, 400),
        (f"{BACKEND}/scale", "target", most + 1, 400),
        (f"{BACKEND}/scale", "target", None, 422),
    ]
    for path, field, value, status in cases:
        answer = await admin.post(path, json={field: value})
        assert answer.status_code == status, (path, value)
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    stats = (await admin.get(STATS)).json()
    assert (stats["total"], (await admin.get(f"{WORKERS}/count")).json()["count"]) == (2, 2)


async def test_reloading_replaces_what_is_idle(
    admin: httpx.AsyncClient, two: list[RunningWorker]
) -> None:
    before = names((await admin.get(STATS)).json())
    shared = {each["container_name"] for each in (await admin.get(WORKERS)).json()}
    done = {"status": "completed", "success": 2, "failed": 0, "errors": []}
    answer = await admin.post(f"{BACKEND}/reload")
    assert answer.json() == {"idle_containers": 2, **done}
    middle = names((await admin.get(STATS)).json())
    assert len(middle) == 2
    assert not before & middle
    assert {each["container_name"] for each in (await admin.get(WORKERS)).json()} == shared
    answer = await admin.post(f"{WORKERS}/reload")
    assert answer.json() == {
        "workers": {"total_workers": 2, **done},
        "pool": {"idle_containers": 2, **done},
    }
    assert not middle & names((await admin.get(STATS)).json())
    now = {each["container_name"] for each in (await admin.get(WORKERS)).json()}
    assert len(now) == 2
    assert not now & shared


@pytest.mark.parametrize("change", ["scale", "reload"])
async def test_running_calls_are_not_cut(
    admin: httpx.AsyncClient,
    as_: SignIn,
    one: RunningWorker,
    context: AppContext,
    change: str,
) -> None:
    owner = await as_.user("user")
    for name, shared in (("own", False), ("shared", True)):
        await make_function(context, owner, SLEEP, name=name, shared_pool=shared)
    client = await as_("user")
    running = [
        (
            await client.post(
                f"/functions/default/{name}/execute/async", json={"input": {"seconds": 2}}
            )
        ).json()["execution_id"]
        for name in ("own", "shared")
    ]
    stats = await shown(admin, STATS, lambda stats: stats["in_use"] == 1)
    busy = stats["in_use_containers"][0]["name"]
    listed = await shown(admin, WORKERS, lambda all_: all_[0]["running"] == 1)
    old = listed[0]["container_name"]
    if change == "scale":
        scaled = (await admin.post(f"{BACKEND}/scale", json={"target": 0})).json()
        assert scaled["current"] == 1  # the busy one
        scaled = (await admin.post(f"{WORKERS}/scale", json={"target_count": 0})).json()
        assert (scaled["current_count"], scaled["removed"]) == (0, 1)
    else:
        assert (await admin.post(f"{WORKERS}/reload")).json()["workers"]["success"] == 1
    states = {each["container_name"]: each["status"] for each in await json_of(admin, WORKERS)}
    assert states[old] == "retiring"
    assert (await admin.get(f"{WORKERS}/count")).json() == {"count": len(states)}
    for execution_id in running:
        path = f"/executions/{execution_id}"
        ended = await shown(admin, path, lambda row: row["status"] not in ("PENDING", "RUNNING"))
        assert (ended["status"], ended["output_data"]) == ("COMPLETED", "whole")
    if change == "reload":
        await shown(admin, STATS, lambda stats: busy not in names(stats))
    await shown(admin, WORKERS, lambda all_: old not in [one["container_name"] for one in all_])


async def json_of(client: httpx.AsyncClient, path: str) -> Any:
    return (await client.get(path)).raise_for_status().json()
