"""Batches over HTTP, with a real worker."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import update

from sinas.context import AppContext
from sinas.models import Batch, Execution, ExecutionStatus
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter

DOUBLE = """
def handler(input_data, context):
    if input_data["n"] < 0:
        raise ValueError("negative")
    return input_data["n"] * 2
"""
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
URL = "/functions/default/double/execute/batch"


@pytest.fixture
async def client(context: AppContext, as_: SignIn) -> httpx.AsyncClient:
    user = await as_.user("user")
    await make_function(context, user, DOUBLE, name="double", input_schema=SCHEMA)
    return await as_("user")


async def submit(client: httpx.AsyncClient, numbers: list[Any], **fields: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"inputs": [{"n": n} for n in numbers], **fields})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def batch_when(
    client: httpx.AsyncClient, batch_id: str, is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            body: dict[str, Any] = (await client.get(f"/batches/{batch_id}")).json()
            if is_so(body):
                return body
            await asyncio.sleep(0.02)


async def set_statuses(context: AppContext, ids: list[str], statuses: list[str]) -> None:
    """As a worker leaves them."""
    async with context.unit() as unit:
        for key, status in zip(ids, statuses, strict=True):
            await unit.session.execute(
                update(Execution).where(Execution.id == UUID(key)).values(status=status)
            )


async def test_a_batch_runs_every_input_and_counts(
    client: httpx.AsyncClient, function_worker: RunningWorker
) -> None:
    submitted = await submit(client, [1, 2, -3], trigger_id_prefix="run-7")
    assert submitted.keys() == {"batch_id", "execution_ids", "total", "status"}
    assert (submitted["total"], submitted["status"]) == (3, "queued")
    batch_id = submitted["batch_id"]
    body = await batch_when(client, batch_id, lambda b: b["finished_at"] is not None)
    expected = {
        "batch_id": batch_id,
        "kind": "function",
        "target": {"namespace": "default", "name": "double"},
        "total": 3,
        "completed": 2,
        "failed": 1,
        "running": 0,
        "queued": 0,
        "cancelled": 0,
        "status": "partial",
        "trigger_id_prefix": "run-7",
        "execution_mode": "queue",
    }
    assert {key: body[key] for key in expected} == expected
    assert body["started_at"] <= body["finished_at"]
    rows = (await client.get(f"/batches/{batch_id}/executions")).json()["executions"]
    assert [row["execution_id"] for row in rows] == submitted["execution_ids"]
    assert [row["trigger_id"] for row in rows] == ["run-7:0", "run-7:1", "run-7:2"]
    assert [row["status"] for row in rows] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert rows[2]["error"] == "ValueError: negative"
    assert rows[0].keys() == {
        *("execution_id", "status", "function_name", "chat_id", "trigger_id"),
        *("started_at", "completed_at", "duration_ms", "error"),
    }
    one = (await client.get(f"/executions/{rows[1]['execution_id']}")).json()
    assert (one["output_data"], one["trigger_type"]) == (4, "API")


async def test_an_input_that_breaks_the_schema_fails_alone(
    client: httpx.AsyncClient, function_worker: RunningWorker
) -> None:
    submitted = await submit(client, ["x", 4])
    body = await batch_when(client, submitted["batch_id"], lambda b: b["finished_at"] is not None)
    assert (body["completed"], body["failed"], body["status"]) == (1, 1, "partial")
    rows = (await client.get(f"/batches/{submitted['batch_id']}/executions")).json()["executions"]
    assert rows[0]["error"].startswith("Schema validation failed")
    assert [row["trigger_id"] for row in rows] == ["batch:0", "batch:1"]


async def test_filter_and_paging_of_a_batchs_executions(
    context: AppContext, client: httpx.AsyncClient
) -> None:
    submitted = await submit(client, list(range(5)))
    ids, url = submitted["execution_ids"], f"/batches/{submitted['batch_id']}/executions"
    await set_statuses(context, ids[1:3], ["COMPLETED", "FAILED"])

    async def listed(**params: Any) -> list[str]:
        answer = await client.get(url, params=params)
        return [row["execution_id"] for row in answer.json()["executions"]]

    assert await listed(status="completed") == [ids[1]]
    assert await listed(status="PENDING") == [ids[0], *ids[3:]]
    assert await listed(limit=2, offset=3) == ids[3:]
    for bad in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"status": "nonsense"}):
        assert (await client.get(url, params=bad)).status_code == 422, bad


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["PENDING", "PENDING"], "queued"),
        (["PENDING", "RUNNING"], "running"),
        (["PENDING", "COMPLETED"], "running"),
        (["AWAITING_INPUT", "FAILED"], "running"),
        (["COMPLETED", "COMPLETED"], "completed"),
        (["COMPLETED", "FAILED"], "partial"),
        (["COMPLETED", "CANCELLED"], "partial"),
        (["FAILED", "FAILED"], "failed"),
    ],
)
async def test_the_status_of_a_batch(
    context: AppContext, client: httpx.AsyncClient, statuses: list[str], status: str
) -> None:
    submitted = await submit(client, [1, 2])
    await set_statuses(context, submitted["execution_ids"], statuses)
    assert (await client.get(f"/batches/{submitted['batch_id']}")).json()["status"] == status


async def test_cancelling_ends_what_has_not_ended(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, client: httpx.AsyncClient
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(i['s'])\n    return i['s']"
    await make_function(context, await as_.user("user"), code, name="sleep")
    answer = await client.post(
        "/functions/default/sleep/execute/batch",
        json={"inputs": [{"s": 0}] + [{"s": 60}] * 9},
    )
    batch_id = answer.json()["batch_id"]
    await batch_when(client, batch_id, lambda b: b["completed"] == 1 and b["running"] > 0)
    cancelled = await client.post(f"/batches/{batch_id}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    expected = {"batch_id": batch_id, "status": "cancelled", "cancelled_children": 9}
    assert cancelled.json() == expected
    body = await batch_when(client, batch_id, lambda b: b["finished_at"] is not None)
    assert (body["completed"], body["cancelled"], body["status"]) == (1, 9, "cancelled")
    again = await client.post(f"/batches/{batch_id}/cancel")
    assert again.json() == {**expected, "cancelled_children": 0}
    # The worker is free again at once: the code was killed.
    after = await client.post("/functions/default/double/execute", json={"input": {"n": 1}})
    assert after.json()["result"] == 2


async def test_a_delay_is_waited_for(
    context: AppContext, client: httpx.AsyncClient, function_worker: RunningWorker
) -> None:
    delayed = await submit(client, [1], delay_seconds=3600)
    soon = await submit(client, [1], delay_seconds=1)
    body = await batch_when(client, soon["batch_id"], lambda b: b["completed"] == 1)
    rows = (await client.get(f"/batches/{soon['batch_id']}/executions")).json()["executions"]
    assert rows[0]["started_at"] > body["started_at"]
    assert (await client.get(f"/batches/{delayed['batch_id']}")).json()["status"] == "queued"


async def test_a_thousand_inputs_are_few_statements(
    client: httpx.AsyncClient, query_counter: QueryCounter
) -> None:
    await submit(client, [1])
    with query_counter() as few:
        await submit(client, [1])
    with query_counter() as many:
        submitted = await submit(client, list(range(1000)))
    assert many.count == few.count <= 5, many.statements
    assert len(set(submitted["execution_ids"])) == 1000
    with query_counter() as read:
        body = (await client.get(f"/batches/{submitted['batch_id']}")).json()
    assert read.count == 3, read.statements
    assert body["queued"] == 1000


async def test_what_is_no_batch_is_refused_whole(
    context: AppContext, client: httpx.AsyncClient, as_: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [{}], "surprise": 1},
        {"inputs": [{}], "delay_seconds": -1},
        {"inputs": [{"n": 1}, {"n": 1, "x": "a\x00b"}]},
    )
    for body in bodies:
        answer = await client.post(URL, json=body)
        assert answer.status_code == 422, (body, answer.text)
    over = {"inputs": [{"n": 1}] * 1001}
    answer = await client.post(URL, json=over)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "inputs")
    assert "MAX_BATCH_SIZE" in answer.json()["detail"]
    nowhere = await client.post("/functions/default/nowhere/execute/batch", json={"inputs": [{}]})
    assert nowhere.status_code == 404
    limited = await as_.key("user", ["sinas.functions/other/*.execute:own"])
    assert (await limited.post(URL, json={"inputs": [{"n": 1}]})).status_code == 403
    assert (await client.get("/executions")).json() == []


async def test_callbacks_are_refused_unless_allowed(
    context: AppContext, client: httpx.AsyncClient
) -> None:
    for url, field in ((URL, "callback_url"), (URL, "batch_callback_url")):
        body = {"inputs": [{"n": 1}], field: "https://hooks.example.com/"}
        answer = await client.post(url, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
        assert "disabled" in answer.json()["detail"]
    one = {"input": {"n": 1}, "callback_url": "https://hooks.example.com/"}
    answer = await client.post("/functions/default/double/execute/async", json=one)
    assert answer.status_code == 400
    assert (await client.get("/executions")).json() == []


async def test_a_batch_is_its_owners(
    context: AppContext, client: httpx.AsyncClient, as_: SignIn
) -> None:
    batch_id = (await submit(client, [1]))["batch_id"]
    other, admin = await as_("other"), await as_("admin")
    for method, path in (("GET", ""), ("GET", "/executions"), ("POST", "/cancel")):
        answer = await other.request(method, f"/batches/{batch_id}{path}")
        absent = await other.request(method, f"/batches/{uuid4()}{path}")
        assert answer.status_code == absent.status_code == 404
    reader = await as_.key("admin", ["sinas.executions.read:all", "sinas.executions.update:own"])
    assert (await reader.get(f"/batches/{batch_id}")).status_code == 200
    assert (await reader.post(f"/batches/{batch_id}/cancel")).status_code == 403
    rows = (await admin.get(f"/batches/{batch_id}/executions")).json()["executions"]
    assert [row["status"] for row in rows] == [ExecutionStatus.PENDING]
    assert (await admin.post(f"/batches/{batch_id}/cancel")).json()["cancelled_children"] == 1


async def test_the_limit_of_a_key_stays_with_its_batch(context: AppContext, as_: SignIn) -> None:
    await make_function(context, await as_.user("user"), DOUBLE, name="double")
    rights = ["sinas.functions/default/double.execute:own"]
    submitted = await submit(await as_.key("user", rights), [1])
    async with context.unit() as unit:
        batch = await unit.session.get(Batch, UUID(submitted["batch_id"]))
        run = await unit.session.get(Execution, UUID(submitted["execution_ids"][0]))
    assert batch is not None
    assert run is not None
    assert batch.access == run.access == dict.fromkeys(rights, True)
