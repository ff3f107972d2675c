"""Calls with a name: a second one with the same name is the first one."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from sinas.context import AppContext
from sinas.models import Execution, ExecutionStatus
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter

REPLAYED = "Idempotency-Replayed"
DRAW = "def handler(i, c):\n    return str(uuid.uuid4())"
NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


async def call(
    client: httpx.AsyncClient, path: str = "execute", *, key: str | None = None, **body: Any
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"/functions/default/f/{path}", json=body, headers=headers)


async def count(context: AppContext) -> int:
    async with context.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Execution)) or 0


@pytest.mark.parametrize("name", [{"key": "k"}, {"trigger_id": "k"}])
async def test_a_second_call_gets_the_first_ones_answer(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, name: dict[str, str]
) -> None:
    await make_function(context, await as_.user("user"), DRAW, name="f")
    client = await as_("user")
    first = await call(client, input={"a": 1}, **name)
    second = await call(client, input={"a": 1}, **name)
    assert first.json()["status"] == "success"
    assert second.json() == first.json()
    assert (first.headers.get(REPLAYED), second.headers.get(REPLAYED)) == (None, "true")
    later = await call(client, "execute/async", input={"a": 1}, **name)
    assert later.json()["execution_id"] == first.json()["execution_id"]
    assert later.headers[REPLAYED] == "true"
    assert await count(context) == 1


async def test_calls_at_the_same_moment_are_one(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), DRAW, name="f")
    client = await as_("user")
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(client, key="k")) for _ in range(8)]
    answers = [each.result() for each in calls]
    assert len({answer.json()["result"] for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert await count(context) == 1


async def test_another_input_with_the_same_name_is_refused(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    assert (await call(client, key="k", input={"a": 1})).status_code == 200
    for path in ("execute", "execute/async"):
        answer = await call(client, path, key="k", input={"a": 2})
        assert answer.status_code == 422
        assert "'k' was used for a call with another input" in answer.json()["detail"]
    assert await count(context) == 1


async def test_a_trigger_id_may_mark_several_calls(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    results = [await call(client, trigger_id="run:1", input={"a": a}) for a in (1, 2, 1)]
    assert [answer.json()["result"] for answer in results] == [{"a": 1}, {"a": 2}, {"a": 1}]
    assert [answer.headers.get(REPLAYED) for answer in results] == [None, None, "true"]
    assert await count(context) == 2


async def test_a_name_counts_for_one_user_and_one_function(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    owner = await as_.user("user")
    await make_function(context, owner, DRAW, name="f")
    await make_function(context, owner, DRAW, name="g")
    mine, theirs = await as_("user"), await as_("other")
    results = [
        (await call(mine, key="k")).json()["result"],
        (await call(theirs, key="k")).json()["result"],
        (await mine.post("/functions/default/g/execute", json={"trigger_id": "k"})).json()[
            "result"
        ],
    ]
    assert len(set(results)) == 3


async def test_the_header_names_the_call_before_the_trigger_id(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), DRAW, name="f")
    client = await as_("user")
    first = await call(client, key="one", trigger_id="nightly")
    second = await call(client, key="two", trigger_id="nightly")
    assert first.json()["result"] != second.json()["result"]
    row = (await client.get(f"/executions/{first.json()['execution_id']}")).json()
    assert row["trigger_id"] == "nightly"


async def test_a_rejected_call_does_not_take_the_name(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f", input_schema=NUMBER)
    client = await as_("user")
    assert (await call(client, key="k", input={"a": "x"})).status_code == 422
    answer = await call(client, key="k", input={"a": "1"})
    assert (answer.status_code, answer.json()["result"]) == (200, {"a": 1})
    assert REPLAYED not in answer.headers
    # What counts is the input as the function gets it.
    assert (await call(client, key="k", input={"a": 1})).headers[REPLAYED] == "true"


async def test_a_failed_call_stays_the_answer(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), "def handler(i, c): 1 / 0", name="f")
    client = await as_("user")
    first, second = await call(client, key="k"), await call(client, key="k")
    assert first.json()["status"] == "error"
    assert second.json() == first.json()


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_name_has_1_to_255_characters(context: AppContext, as_: SignIn, key: str) -> None:
    await make_function(context, await as_.user("user"), name="f")
    assert (await call(await as_("user"), key=key)).status_code == 422


async def test_a_delayed_call_waits(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    answer = await call(client, "execute/async", delay_seconds=2)
    key = answer.json()["execution_id"]
    row = (await client.get(f"/executions/{key}")).json()
    assert (row["status"], row["attempt"]) == ("PENDING", 0)
    async with asyncio.timeout(15):
        while (row := (await client.get(f"/executions/{key}")).json())["completed_at"] is None:
            await asyncio.sleep(0.05)
    async with context.sessions() as session:
        stored = await session.get_one(Execution, row["id"])
    assert stored.status is ExecutionStatus.COMPLETED
    assert (stored.started_at - stored.created_at).total_seconds() >= 2


async def test_a_named_call_costs_no_statement_more(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, query_counter: QueryCounter
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    await call(client)
    with query_counter() as queries:
        await call(client, key="k")
    # Caller, function, insert; in the worker: claim, finish.
    own = [s for s in queries.statements if "workers" not in s]
    assert len(own) == 5, own
