"""Callbacks of executions and batches, sent to a real HTTPS server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from sinas.context import AppContext
from sinas.egress.callbacks import signature
from sinas.models import User
from sinas.resources.batches.callbacks import SWEEPS
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.fixtures.client import BASE_URL, SignIn
from tests.support.outside import Outside

CODE = """
import time
def handler(input_data, context):
    if input_data.get("fail"):
        raise ValueError("no")
    time.sleep(input_data.get("seconds", 0))
    return input_data
"""
NAME = "/functions/default/work"


@pytest.fixture
async def client(
    calling: AppContext, calling_app: FastAPI, as_: SignIn, function_worker: RunningWorker
) -> AsyncIterator[httpx.AsyncClient]:
    await make_function(calling, await as_.user("user"), CODE, name="work", timeout=1)
    headers = dict((await as_("user")).headers)
    transport = httpx.ASGITransport(calling_app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as client:
        yield client


async def until(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(20):
        while not wanted(found := await read()):
            await asyncio.sleep(0.02)
    return found


async def told_of(client: httpx.AsyncClient, batch_id: str) -> Any:
    """The batch, once it is known what became of its callback."""
    answer = await until(
        lambda: client.get(f"/batches/{batch_id}"),
        lambda answer: answer.json()["callback_status"] != "pending",
    )
    return answer.json()


async def call(
    client: httpx.AsyncClient, server: Outside, given: dict[str, Any], trigger: str = "mine"
) -> str:
    answer = await client.post(
        f"{NAME}/execute/async",
        json={"input": given, "trigger_id": trigger, "callback_url": f"{server.url}/done"},
    )
    assert answer.status_code == 202, answer.text
    key: str = answer.json()["execution_id"]
    return key


@pytest.mark.parametrize(
    ("given", "status", "error"),
    [
        ({"a": 1}, "success", None),
        ({"fail": True}, "failure", "ValueError: no"),
        ({"seconds": 30}, "timeout", "Execution timeout after 1s"),
    ],
)
async def test_the_end_of_a_call_is_told_once_and_signed(
    client: httpx.AsyncClient,
    scheduler: None,
    server: Outside,
    given: dict[str, Any],
    status: str,
    error: str | None,
) -> None:
    key = await call(client, server, given)
    [seen] = await server.wait_for(1)
    body = seen.json()
    assert body.keys() == {
        *("execution_id", "trigger_id", "function", "status", "started_at", "finished_at"),
        *("duration_ms", "result", "error"),
    }
    assert (body["execution_id"], body["trigger_id"]) == (key, "mine")
    assert body["function"] == {"namespace": "default", "name": "work"}
    assert (body["status"], body["error"]) == (status, error)
    assert body["result"] == (given if status == "success" else None)
    given_key = (await client.get("/callbacks/key")).json()
    moment = int(seen.headers["x-sinas-signature"].partition(",")[0].removeprefix("t="))
    expected = signature(given_key["key"], moment, seen.body)
    assert seen.headers[given_key["header"].lower()] == expected
    # The token is the user's: it opens what the user may.
    with_token = {"Authorization": seen.headers["authorization"]}
    row = (await client.get(f"/executions/{key}", headers=with_token)).json()
    assert row["id"] == key


async def test_cancelled_and_rejected_calls_are_told_too(
    client: httpx.AsyncClient, scheduler: None, server: Outside
) -> None:
    body = {
        "inputs": [{"seconds": 0}],
        "delay_seconds": 3600,
        "callback_url": f"{server.url}/one",
        "batch_callback_url": f"{server.url}/all",
    }
    batch_id = (await client.post(f"{NAME}/execute/batch", json=body)).json()["batch_id"]
    await client.post(f"/batches/{batch_id}/cancel")
    told = {seen.target: seen.json() for seen in await server.wait_for(2)}
    assert told["/one"]["status"] == "failure"
    assert "cancelled" in told["/one"]["error"]
    assert (told["/all"]["batch_id"], told["/all"]["status"]) == (batch_id, "cancelled")
    assert (told["/all"]["total"], told["/all"]["cancelled"]) == (1, 1)
    read = await told_of(client, batch_id)
    assert (read["callback_status"], read["callback_response_code"]) == ("sent", 200)


async def test_a_batch_is_told_once_when_all_have_ended(
    client: httpx.AsyncClient, scheduler: None, server: Outside
) -> None:
    body = {
        "inputs": [{"n": n} for n in range(12)] + [{"fail": True}],
        "callback_url": f"{server.url}/one",
        "batch_callback_url": f"{server.url}/all",
    }
    await client.post(f"{NAME}/execute/batch", json=body)
    received = await server.wait_for(14)
    [last] = [seen.json() for seen in received if seen.target == "/all"]
    assert (last["completed"], last["failed"], last["status"]) == (12, 1, "partial")
    ends = {seen.json()["execution_id"] for seen in received if seen.target == "/one"}
    assert len(ends) == 13
    assert last["finished_at"] is not None


async def test_what_was_not_taken_is_noted_and_not_repeated(
    calling: AppContext, client: httpx.AsyncClient, scheduler: None, server: Outside
) -> None:
    server.answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    body = {"inputs": [{}], "batch_callback_url": f"{server.url}/all"}
    first = (await client.post(f"{NAME}/execute/batch", json=body)).json()["batch_id"]
    unreachable = {**body, "batch_callback_url": "https://127.0.0.1:1/"}
    second = (await client.post(f"{NAME}/execute/batch", json=unreachable)).json()["batch_id"]
    for batch_id, code in ((first, 500), (second, None)):
        found = await told_of(client, batch_id)
        assert (found["callback_status"], found["callback_response_code"]) == ("failed", code)
    for sweep in SWEEPS:
        await sweep.run(calling)
    assert len(server.received) == 1


async def test_two_schedulers_tell_once(
    calling: AppContext, client: httpx.AsyncClient, server: Outside
) -> None:
    for n in range(5):
        await call(client, server, {"n": n}, f"mine:{n}")
    await until(
        lambda: client.get("/executions", params={"status": "completed"}),
        lambda answer: len(answer.json()) == 5,
    )

    async def scheduler() -> None:
        for sweep in SWEEPS:
            await sweep.run(calling)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(scheduler())
    assert len(server.received) == 5


async def test_a_slow_receiver_delays_others_by_its_share_only(
    calling: AppContext, client: httpx.AsyncClient, server: Outside, as_: SignIn
) -> None:
    """One user's many callbacks are not all in the round that another's first one is in."""
    inputs = {"inputs": [{}] * 15, "callback_url": f"{server.url}/many"}
    await client.post(f"{NAME}/execute/batch", json=inputs)
    headers = dict((await as_("other")).headers)
    one = {"input": {}, "callback_url": f"{server.url}/one"}
    await client.post(f"{NAME}/execute/async", json=one, headers=headers)
    admin = await as_("admin")
    await until(
        lambda: admin.get("/executions", params={"status": "completed"}),
        lambda answer: len(answer.json()) == 16,
    )
    await SWEEPS[0].run(calling)
    targets = [seen.target for seen in server.received]
    assert (targets.count("/one"), targets.count("/many")) == (1, 10)


async def test_nothing_is_told_for_who_was_deactivated(
    calling: AppContext, client: httpx.AsyncClient, server: Outside, as_: SignIn
) -> None:
    key = await call(client, server, {})
    await until(
        lambda: client.get(f"/executions/{key}"),
        lambda answer: answer.json()["status"] == "COMPLETED",
    )
    async with calling.unit() as unit:
        user = await unit.session.get(User, (await as_.user("user")).id)
        assert user is not None
        user.is_active = False
    await SWEEPS[0].run(calling)
    assert server.received == []
