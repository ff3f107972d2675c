"""Callbacks of chats in batches, sent to a real HTTPS server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from sinas.context import AppContext
from sinas.egress.callbacks import signature
from sinas.models import Turn
from sinas.resources.batches.callbacks import SWEEPS
from sinas.worker import RunningWorker
from tests.chat.support import Talks, until
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.fixtures.client import BASE_URL, SignIn
from tests.support.llm_script import Answer, Call
from tests.support.outside import Outside

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
async def client(
    calling_app: FastAPI, as_: SignIn, agent_worker: RunningWorker
) -> AsyncIterator[httpx.AsyncClient]:
    headers = dict((await as_("user")).headers)
    transport = httpx.ASGITransport(calling_app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as client:
        yield client


async def submit(
    talks: Talks,
    client: httpx.AsyncClient,
    inputs: list[dict[str, Any]],
    *answers: Answer,
    url: str,
    **agent: Any,
) -> dict[str, Any]:
    """A batch for an agent whose model gives `answers`, else what it was told."""
    if answers:
        talks.llm.script("scripted", answers, by="round")
    row = await make_agent(
        talks.context,
        await talks.as_.user("user"),
        provider=await make_provider(talks.context, talks.llm.openai_url),
        model="scripted" if answers else "echo",
        **agent,
    )
    body = {"inputs": inputs, "callback_url": f"{url}/one", "batch_callback_url": f"{url}/all"}
    answer = await client.post(f"/agents/default/{row.name}/chats/batch", json=body)
    assert answer.status_code == 202, answer.text
    submitted: dict[str, Any] = answer.json()
    return submitted


async def test_the_end_of_a_turn_is_told_with_its_last_message_and_its_calls(
    talks: Talks,
    client: httpx.AsyncClient,
    scheduler: None,
    function_worker: RunningWorker,
    server: Outside,
) -> None:
    await make_function(talks.context, await talks.as_.user("user"), namespace="shop", name="find")
    submitted = await submit(
        talks,
        client,
        [{"message": "find it"}],
        Answer(chunks=("Let me look.",), calls=(Call("shop__find", '{"x": 1}', id="call_a"),)),
        Answer(chunks=("Here it is.",)),
        url=server.url,
        enabled_functions=["shop/find"],
        name="finder",
    )
    told = {seen.target: seen for seen in await server.wait_for(2)}
    body = told["/one"].json()
    assert body.keys() == {
        *("execution_id", "trigger_id", "agent", "status", "started_at", "finished_at"),
        *("duration_ms", "result", "error"),
    }
    assert (body["execution_id"], body["trigger_id"]) == (submitted["execution_ids"][0], "batch:0")
    assert body["agent"] == {"namespace": "default", "name": "finder"}
    assert (body["status"], body["error"]) == ("success", None)
    assert body["duration_ms"] >= 0
    assert body["started_at"] <= body["finished_at"]
    [call] = body["result"].pop("tool_calls")
    assert (call["id"], call["function"]) == (
        "call_a",
        {"name": "shop__find", "arguments": '{"x": 1}'},
    )
    assert body["result"] == {
        "chat_id": submitted["chat_ids"][0],
        "final_message": "Here it is.",
        "final_message_role": "assistant",
    }
    key = (await client.get("/callbacks/key")).json()
    for seen in told.values():
        moment = int(seen.headers["x-sinas-signature"].partition(",")[0].removeprefix("t="))
        assert seen.headers[key["header"].lower()] == signature(key["key"], moment, seen.body)
    with_token = {"Authorization": told["/one"].headers["authorization"]}
    chat = await client.get(f"/chats/{submitted['chat_ids'][0]}", headers=with_token)
    assert chat.status_code == 200
    assert (told["/all"].json()["kind"], told["/all"].json()["completed"]) == ("agent", 1)


async def test_failures_are_told_as_what_they_are(
    talks: Talks, client: httpx.AsyncClient, scheduler: None, server: Outside
) -> None:
    submitted = await submit(
        talks,
        client,
        [{"message": "hello", "input_variables": {}}, {"message": "hello"}],
        Answer(chunks=("begun ", "never"), hold_after=1),
        url=server.url,
        input_schema=SCHEMA,
        default_job_timeout=1,
    )
    seen = [each.json() for each in await server.wait_for(3)]
    told = {body["execution_id"]: body for body in seen if "execution_id" in body}
    rejected, late = (told[key] for key in submitted["execution_ids"])
    assert rejected["status"] == "failure"
    assert rejected["error"].startswith("Input validation failed: ")
    assert rejected["result"] == {
        "chat_id": submitted["chat_ids"][0],
        "final_message": None,
        "final_message_role": None,
        "tool_calls": [],
    }
    assert (late["status"], late["error"]) == (
        "timeout",
        "Agent execution timed out after 1 seconds.",
    )
    assert late["result"]["final_message"] == "begun "
    [whole] = [body for body in seen if "batch_id" in body]
    assert (whole["status"], whole["failed"], whole["total"]) == ("failed", 2, 2)


async def test_cancelled_turns_are_told_too(
    talks: Talks, client: httpx.AsyncClient, scheduler: None, server: Outside
) -> None:
    submitted = await submit(
        talks,
        client,
        [{"message": str(n)} for n in range(7)],
        Answer(chunks=("a", "b"), hold_after=1),
        url=server.url,
    )
    await client.post(f"/batches/{submitted['batch_id']}/cancel")
    seen = [each.json() for each in await server.wait_for(8)]
    told = [body for body in seen if "execution_id" in body]
    assert {body["execution_id"] for body in told} == set(submitted["execution_ids"])
    assert {(body["status"], body["error"]) for body in told} == {("failure", "cancelled")}
    [whole] = [body for body in seen if "batch_id" in body]
    assert (whole["status"], whole["cancelled"]) == ("cancelled", 7)


async def test_two_schedulers_tell_once(
    calling: AppContext, talks: Talks, client: httpx.AsyncClient, server: Outside
) -> None:
    submitted = await submit(talks, client, [{"message": str(n)} for n in range(5)], url=server.url)

    async def done() -> bool:
        body = (await client.get(f"/batches/{submitted['batch_id']}")).json()
        return bool(body["completed"] == 5)

    await until(done)

    async def scheduler() -> None:
        for sweep in SWEEPS:
            await sweep.run(calling)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(scheduler())
    targets = [seen.target for seen in server.received]
    assert (targets.count("/one"), targets.count("/all")) == (5, 1)
    async with calling.sessions() as session:
        rows = (await session.scalars(select(Turn))).all()
        assert {(row.callback_status, row.callback_response_code) for row in rows} == {
            ("sent", 200)
        }
