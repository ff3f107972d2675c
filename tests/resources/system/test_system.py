"""How the installation is, through HTTP, and what an operator does about it."""

import dataclasses
from datetime import timedelta
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from sinas.auth.principal import system_principal
from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import ExecutionStatus
from sinas.queue import commands
from sinas.resources.system.service import SystemService
from sinas.worker import RunningWorker
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import free_port
from tests.support.operating import SLEEP, STATS, filled, names, shown

SYSTEM = "/api/v1/system"
HEALTH = f"{SYSTEM}/health"


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


async def json_of(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    return (await client.get(path, params=params)).raise_for_status().json()


def by_service(health: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in health["services"]:
        found.setdefault(one["service"], []).append(one)
    return found


def messages(health: dict[str, Any], level: str) -> list[str]:
    return [one["message"] for one in health["warnings"] if one["level"] == level]


async def test_health_without_workers(admin: httpx.AsyncClient) -> None:
    health = await json_of(admin, HEALTH)
    assert health.keys() == {"warnings", "services", "host"}
    assert messages(health, "critical") == ["No function worker runs.", "No agent worker runs."]
    assert [one["service"] for one in health["services"]] == ["redis", "postgres", "api"]
    for one in health["services"]:
        assert one.keys() == {"name", "service", "status", "health", "uptime_seconds"}
        assert (one["status"], one["health"]) == ("running", "healthy")
        assert one["uptime_seconds"] >= 0
    assert health["host"].keys() == {
        *("cpu_percent", "memory_total_mb", "memory_used_mb", "memory_percent"),
        *("disk_total_gb", "disk_used_gb", "disk_percent"),
    }
    assert 0 < health["host"]["memory_used_mb"] < health["host"]["memory_total_mb"]
    assert 0 < health["host"]["disk_percent"] <= 100


async def test_health_of_workers_and_containers(
    admin: httpx.AsyncClient, function_worker: RunningWorker, agent_worker: RunningWorker
) -> None:
    await filled(function_worker)
    health = await json_of(admin, HEALTH)
    assert messages(health, "critical") == []
    found = by_service(health)
    assert list(found) == [
        *("redis", "postgres", "api", "worker-functions", "worker-agents"),
        *("sandbox", "shared"),
    ]
    assert function_worker.context.sandbox is not None
    status = function_worker.context.sandbox.status()
    assert [one["name"] for one in found["sandbox"]] == [status.idle[0].name]
    assert [one["name"] for one in found["shared"]] == [status.shared[0].name]
    assert found["shared"][0]["health"] == "none"
    assert found["worker-functions"][0]["health"] == "healthy"
    assert str(agent_worker.context.worker_id).endswith(
        found["worker-agents"][0]["name"].removeprefix("worker-agents-")
    )
    assert health["sandbox"] == {
        "backend": "process",
        "boundary": status.boundary,
        "warnings": list(status.warnings),
    }
    assert not any("memory" in one or "cpu_percent" in one for one in health["services"])


async def test_measured_health(
    admin: httpx.AsyncClient, function_worker: RunningWorker, agent_worker: RunningWorker
) -> None:
    await filled(function_worker)
    found = by_service(await json_of(admin, HEALTH, include_stats=True))
    for kind in ("redis", "api", "worker-functions", "worker-agents", "sandbox", "shared"):
        memory = found[kind][0]["memory"]
        assert memory.keys() == {"used_mb", "limit_mb", "percent"}, kind
        assert 0 < memory["used_mb"] < memory["limit_mb"], kind
        assert memory["percent"] == pytest.approx(
            100 * memory["used_mb"] / memory["limit_mb"], abs=0.1
        )
    for kind in ("api", "worker-functions", "worker-agents", "sandbox", "shared"):
        assert found[kind][0]["cpu_percent"] >= 0, kind


async def test_health_while_redis_is_away(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that can be said without it is said."""
    monkeypatch.setattr(commands, "_ABSENT_SECONDS", 0.3)
    user = await as_.user("admin")
    redis = Redis(port=free_port())
    system = SystemService(
        dataclasses.replace(context, redis=redis), system_principal(user.id, user.email)
    )
    health = (await system.health(include_stats=False)).model_dump()
    await redis.aclose()
    found = by_service(health)
    assert (found["redis"][0]["status"], found["redis"][0]["health"]) == ("stopped", "unhealthy")
    assert "redis is not running." in messages(health, "critical")
    worker = found["worker-functions"][0]
    assert worker["health"] == "unhealthy"
    assert f"{worker['name']} is unhealthy." in messages(health, "warning")
    assert len(found["sandbox"]) == 1


async def test_dead_letters_and_long_queues_are_said(
    admin: httpx.AsyncClient, as_: SignIn, context: AppContext
) -> None:
    function = await make_function(context, await as_.user("user"), name="f")
    await make_execution(
        context, function, status=ExecutionStatus.FAILED, dead_lettered_at=utcnow()
    )
    client = await as_("user")
    for _ in range(51):
        await client.post("/functions/default/f/execute/async", json={"input": {}})
    assert messages(await json_of(admin, HEALTH), "warning") == [
        "1 call is in the dead-letter list.",
        "51 jobs wait in the queue 'functions'.",
    ]


@pytest.mark.parametrize("kind", ["own", "shared"])
async def test_restarting_a_container_ends_what_hangs_in_it(
    admin: httpx.AsyncClient,
    as_: SignIn,
    context: AppContext,
    function_worker: RunningWorker,
    kind: str,
) -> None:
    await filled(function_worker)
    await make_function(
        context, await as_.user("user"), SLEEP, name="sleep", shared_pool=kind == "shared"
    )
    answer = await (await as_("user")).post(
        "/functions/default/sleep/execute/async", json={"input": {"seconds": 60}}
    )
    execution = f"/executions/{answer.json()['execution_id']}"
    if kind == "own":
        stats = await shown(admin, STATS, lambda stats: stats["in_use"] == 1)
        name = stats["in_use_containers"][0]["name"]
    else:
        listed = await shown(admin, "/api/v1/workers", lambda all_: all_[0]["running"] == 1)
        name = listed[0]["container_name"]
    answer = await admin.post(f"{SYSTEM}/containers/{name}/restart")
    assert answer.json() == {"status": "restarted", "container": name}
    ended = await shown(admin, execution, lambda row: row["status"] == "FAILED")
    assert "an operator restarted it" in ended["error"]
    stats = await shown(admin, STATS, lambda stats: stats["idle"] >= 1)
    workers = await shown(admin, "/api/v1/workers", lambda all_: len(all_) == 1)
    assert name not in names(stats) | {one["container_name"] for one in workers}
    again = await admin.post(f"{SYSTEM}/containers/{name}/restart")
    assert again.status_code == 404


@pytest.mark.parametrize("name", ["postgres", "redis", "api", "nowhere", "..%2Fpostgres"])
async def test_nothing_else_can_be_restarted(
    admin: httpx.AsyncClient, function_worker: RunningWorker, name: str
) -> None:
    answer = await admin.post(f"{SYSTEM}/containers/{name}/restart")
    assert answer.status_code == 404


async def test_stuck_calls_are_cancelled(
    admin: httpx.AsyncClient, as_: SignIn, context: AppContext
) -> None:
    function = await make_function(context, await as_.user("user"))
    rows = {}
    for hours, status in ((3, ExecutionStatus.RUNNING), (1, ExecutionStatus.RUNNING)):
        started = utcnow() - timedelta(hours=hours)
        row = await make_execution(context, function, status=status, started_at=started)
        rows[hours] = f"/executions/{row.id}"
    answer = await admin.post(f"{SYSTEM}/flush-stuck-jobs")
    assert answer.json() == {"cancelled": 1, "max_age_hours": 2}
    assert (await json_of(admin, rows[3]))["status"] == "CANCELLED"
    assert (await json_of(admin, rows[1]))["status"] == "RUNNING"


OPERATIONS = (
    *(("GET", path) for path in ("workers", "workers/count", "containers/stats")),
    *(("GET", f"queue/{path}") for path in ("stats", "jobs", "dlq", "workers")),
    ("GET", "system/health"),
    *(
        ("POST", f"{pool}/{what}")
        for pool in ("workers", "containers")
        for what in ("scale", "reload")
    ),
    ("POST", "queue/dlq/flush"),
    ("POST", "system/flush-stuck-jobs"),
    ("POST", "system/containers/nowhere/restart"),
)


async def test_rights_to_ones_own_are_no_rights_here(as_: SignIn, context: AppContext) -> None:
    """What is everybody's needs `:all`, and reading does not allow changing."""
    rights = ["sinas.system.read:own", "sinas.system.update:own", "sinas.executions.read:all"]
    own = await as_(await make_user(context, permissions=rights))
    reader = await as_.key("admin", ["sinas.system.read:all"])
    for method, path in OPERATIONS:
        answer = await own.request(method, f"/api/v1/{path}", json={})
        assert answer.status_code == 403, path
        answer = await reader.request(method, f"/api/v1/{path}", json={})
        assert answer.status_code == (200 if method == "GET" else 403), path
