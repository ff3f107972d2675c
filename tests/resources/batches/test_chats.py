"""Batches of chats over HTTP, with a real worker and a scripted model."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import Batch, Chat, Execution, Turn
from sinas.resources.chats.jobs import push_again
from sinas.worker import RunningWorker
from tests.chat.support import Talks, until
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter
from tests.support.llm_script import Answer, Call

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
URL = "/agents/default/worker/chats/batch"
ENDED = {"completed", "failed", "partial", "cancelled"}


@pytest.fixture
async def client(talks: Talks) -> httpx.AsyncClient:
    """The user, whose agent `worker` says what it was told."""
    await agent(talks)
    return await talks.as_("user")


async def agent(talks: Talks, name: str = "worker", model: str = "echo", **columns: Any) -> None:
    provider = await make_provider(talks.context, talks.llm.openai_url)
    user = await talks.as_.user("user")
    await make_agent(talks.context, user, provider=provider, model=model, name=name, **columns)


async def submit(
    client: httpx.AsyncClient, messages: list[Any], url: str = URL, **fields: Any
) -> dict[str, Any]:
    inputs = [{"message": m} if isinstance(m, str) else m for m in messages]
    answer = await client.post(url, json={"inputs": inputs, **fields})
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


async def ended(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    return await batch_when(client, batch_id, lambda body: body["status"] in ENDED)


async def children(client: httpx.AsyncClient, batch_id: str, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/batches/{batch_id}/executions", params=params)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["executions"]
    return rows


async def test_each_input_is_answered_in_a_chat_of_its_own(
    client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    messages = ["one", "two", [{"type": "text", "text": "three"}]]
    submitted = await submit(client, [{"message": m} for m in messages], trigger_id_prefix="run-7")
    assert submitted.keys() == {
        *("batch_id", "execution_ids", "chat_ids", "total", "status", "execution_mode"),
    }
    assert (submitted["total"], submitted["status"]) == (3, "queued")
    assert submitted["execution_mode"] == "queue"
    batch_id = submitted["batch_id"]
    body = await ended(client, batch_id)
    expected = {
        "batch_id": batch_id,
        "kind": "agent",
        "target": {"namespace": "default", "name": "worker"},
        "total": 3,
        "completed": 3,
        "failed": 0,
        "running": 0,
        "queued": 0,
        "cancelled": 0,
        "status": "completed",
        "trigger_id_prefix": "run-7",
        "execution_mode": "queue",
    }
    assert {key: body[key] for key in expected} == expected
    assert body["started_at"] <= body["finished_at"]
    rows = await children(client, batch_id)
    assert [row["execution_id"] for row in rows] == submitted["execution_ids"]
    assert [row["chat_id"] for row in rows] == submitted["chat_ids"]
    assert [row["trigger_id"] for row in rows] == ["run-7:0", "run-7:1", "run-7:2"]
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert {row["function_name"] for row in rows} == {"worker"}
    assert all(row["duration_ms"] >= 0 and row["error"] is None for row in rows)
    for number, said in enumerate(("one", "two", "three")):
        chat = (await client.get(f"/chats/{submitted['chat_ids'][number]}")).json()
        assert chat["title"] == f"batch:{batch_id}:{number}"
        assert [m["role"] for m in chat["messages"]] == ["user", "assistant"]
        assert chat["messages"][1]["content"] == said
        job = (await client.get(f"/jobs/{submitted['execution_ids'][number]}/result")).json()
        assert (job["status"], job["result"]) == ("completed", said)


async def test_input_that_breaks_the_schema_fails_alone(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    await agent(
        talks,
        "strict",
        input_schema=SCHEMA,
        system_prompt="You have {{ n }}.",
        initial_messages=[
            {"role": "user", "content": "first {{ n }}"},
            {"role": "assistant", "content": "second {{ n }}"},
        ],
    )
    submitted = await submit(
        client,
        [
            {"input_variables": {"n": "x"}, "message": "bad"},
            {"input_variables": {"n": "7"}, "message": "good"},
        ],
        "/agents/default/strict/chats/batch",
    )
    assert submitted["status"] == "running"
    body = await ended(client, submitted["batch_id"])
    assert (body["completed"], body["failed"], body["status"]) == (1, 1, "partial")
    bad, good = await children(client, submitted["batch_id"])
    assert bad["error"].startswith("Input validation failed: ")
    assert (bad["status"], bad["duration_ms"]) == ("FAILED", 0)
    assert (good["status"], good["error"]) == ("COMPLETED", None)
    assert [row["trigger_id"] for row in (bad, good)] == ["batch:0", "batch:1"]
    [request] = talks.llm.requests
    assert [m["content"] for m in request.body["messages"]] == [
        *("You have 7.", "first 7", "second 7", "good"),
    ]
    # What failed can be looked at, and followed to its end.
    chat = (await client.get(f"/chats/{bad['chat_id']}")).json()
    assert [m["content"] for m in chat["messages"]][-1] == "bad"
    stream = await client.get(f"/chats/{bad['chat_id']}/stream/{chat['active_channel_id']}")
    assert bad["error"] in stream.text


async def test_a_call_that_needs_approval_fails_its_item(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    user = await talks.as_.user("user")
    await make_function(talks.context, user, namespace="shop", name="pay", requires_approval=True)
    talks.llm.script("payer", [Answer(chunks=("I pay. ",), calls=(Call("shop__pay"),))], by="round")
    await agent(talks, "payer", "payer", enabled_functions=["shop/pay"])
    submitted = await submit(client, ["pay"], "/agents/default/payer/chats/batch")
    body = await ended(client, submitted["batch_id"])
    assert (body["status"], body["failed"]) == ("failed", 1)
    [row] = await children(client, submitted["batch_id"])
    assert row["error"].startswith(
        "The agent called 'shop__pay', which needs a person's approval, and in a batch nobody"
    )
    assert (await client.get("/approvals")).json() == []
    async with talks.context.sessions() as session:
        assert (await session.scalars(select(Execution.id))).all() == []
    chat = (await client.get(f"/chats/{row['chat_id']}")).json()
    assert [m["content"] for m in chat["messages"]] == ["pay", "I pay. "]
    # Later, in the same chat, somebody is there.
    answer = await client.post(f"/chats/{row['chat_id']}/messages", json={"content": "pay now"})
    assert answer.json()["status"] == "in_progress"
    assert len((await client.get("/approvals")).json()) == 1


async def test_a_sub_agent_of_a_batch_asks_nobody_either(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    user = await talks.as_.user("user")
    await make_function(talks.context, user, namespace="shop", name="pay", requires_approval=True)
    talks.llm.script("payer", [Answer(calls=(Call("shop__pay"),)), Answer(chunks=("paid",))])
    talks.llm.script(
        "boss",
        [
            Answer(calls=(Call("call_agent_default__payer", '{"prompt": "pay"}'),)),
            Answer(chunks=("it could not",)),
        ],
        by="round",
    )
    await agent(talks, "payer", "payer", enabled_functions=["shop/pay"])
    await agent(talks, "boss", "boss", enabled_agents=["default/payer"])
    submitted = await submit(client, ["go"], "/agents/default/boss/chats/batch")
    body = await ended(client, submitted["batch_id"])
    assert body["status"] == "completed"
    result = talks.llm.requests[-1].body["messages"][-1]
    assert result["role"] == "tool"
    assert "in a batch nobody is asked" in result["content"]
    assert (await client.get("/approvals")).json() == []


async def test_a_question_to_the_user_waits_for_the_answer(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    talks.llm.script(
        "asker",
        [
            Answer(calls=(Call("ask_user", '{"question": "Which?"}'),)),
            Answer(chunks=("thanks",)),
        ],
        by="round",
    )
    await agent(talks, "asker", "asker", system_tools=["askUser"])
    submitted = await submit(client, ["go"], "/agents/default/asker/chats/batch")
    batch_id = submitted["batch_id"]

    async def asks() -> bool:
        return [row["status"] for row in await children(client, batch_id)] == ["AWAITING_INPUT"]

    await until(asks)
    assert len(await children(client, batch_id, status="awaiting_input")) == 1
    body = (await client.get(f"/batches/{batch_id}")).json()
    assert (body["status"], body["running"], body["finished_at"]) == ("running", 1, None)
    [chat_id] = submitted["chat_ids"]
    [question] = (await client.get(f"/chats/{chat_id}/pending-input")).json()
    path = f"/chats/{chat_id}/pending-input/{question['tool_call_id']}"
    assert (await client.post(path, json={"answer": "the blue one"})).status_code == 202
    assert (await ended(client, batch_id))["status"] == "completed"


async def test_filter_and_paging(context: AppContext, client: httpx.AsyncClient) -> None:
    submitted = await submit(client, [str(n) for n in range(6)])
    ids, batch_id = submitted["execution_ids"], submitted["batch_id"]
    statuses = ("queued", "running", "waiting", "delegated", "completed", "failed")
    async with context.unit() as unit:
        for key, status in zip(ids, statuses, strict=True):
            await unit.session.execute(
                update(Turn).where(Turn.id == UUID(key)).values(status=status)
            )

    async def listed(**params: Any) -> list[str]:
        return [row["execution_id"] for row in await children(client, batch_id, **params)]

    assert await listed(status="pending") == [ids[0]]
    assert await listed(status="RUNNING") == [ids[1], ids[3]]
    assert await listed(status="AWAITING_INPUT") == [ids[2]]
    assert await listed(limit=2, offset=3) == ids[3:5]
    body = (await client.get(f"/batches/{batch_id}")).json()
    numbers = {n: body[n] for n in ("queued", "running", "completed", "failed", "cancelled")}
    assert numbers == {"queued": 1, "running": 3, "completed": 1, "failed": 1, "cancelled": 0}


async def test_a_delayed_batch_waits_and_is_found_when_its_entries_are_lost(
    context: AppContext, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    submitted = await submit(client, ["later"], delay_seconds=3600)
    await asyncio.sleep(0.5)
    [row] = await children(client, submitted["batch_id"])
    assert row["status"] == "PENDING"
    await context.redis.flushdb()
    await push_again(context)
    await asyncio.sleep(0.5)
    assert (await client.get(f"/batches/{submitted['batch_id']}")).json()["status"] == "queued"
    async with context.unit() as unit:
        past = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 60)
        await unit.session.execute(update(Turn).values(queued_at=past))
    await push_again(context)
    assert (await ended(client, submitted["batch_id"]))["status"] == "completed"


async def test_a_short_delay_is_kept_by_the_queue(
    client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    submitted = await submit(client, ["soon"], delay_seconds=1)
    await ended(client, submitted["batch_id"])
    chat = (await client.get(f"/chats/{submitted['chat_ids'][0]}")).json()
    asked, answered = chat["messages"]
    assert _seconds(answered["created_at"]) - _seconds(asked["created_at"]) >= 0.9


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


async def test_cancelling_stops_what_runs_and_ends_what_did_not_begin(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    talks.llm.script("slow", [Answer(chunks=("kept ", "never"), hold_after=1)])
    await agent(talks, "slow", "slow")
    submitted = await submit(client, [str(n) for n in range(8)], "/agents/default/slow/chats/batch")
    batch_id = submitted["batch_id"]
    slots = talks.context.settings.queue.agent_batch_concurrency
    await batch_when(client, batch_id, lambda body: body["running"] == slots)
    cancelled = (await client.post(f"/batches/{batch_id}/cancel")).json()
    assert cancelled["cancelled_children"] == 8
    body = await ended(client, batch_id)
    assert (body["cancelled"], body["status"]) == (8, "cancelled")
    rows = await children(client, batch_id)
    assert {row["status"] for row in rows} == {"CANCELLED"}
    for request in talks.llm.requests:
        await asyncio.wait_for(request.disconnected.wait(), 10)
    assert len(talks.llm.requests) == slots
    again = (await client.post(f"/batches/{batch_id}/cancel")).json()
    assert (again["cancelled_children"], again["status"]) == (0, "cancelled")
    # Whoever follows a turn that never began is told that it never will.
    chat = (await client.get(f"/chats/{submitted['chat_ids'][-1]}")).json()
    stream = await client.get(f"/chats/{chat['id']}/stream/{chat['active_channel_id']}")
    assert '"cancelled"' in stream.text


async def test_stopping_the_chat_of_a_delayed_item_ends_it_at_once(
    client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    submitted = await submit(client, ["later"], delay_seconds=3600)
    stopped = await client.post(f"/chats/{submitted['chat_ids'][0]}/stop")
    assert stopped.json() == {"status": "stopping", "turns": 1}
    body = await ended(client, submitted["batch_id"])
    assert (body["cancelled"], body["failed"]) == (1, 0)


async def test_people_do_not_wait_behind_a_batch(
    talks: Talks, client: httpx.AsyncClient, agent_worker: RunningWorker
) -> None:
    talks.llm.script("slow", [Answer(chunks=("a", "b"), hold_after=1)])
    await agent(talks, "slow", "slow")
    submitted = await submit(
        client, [str(n) for n in range(30)], "/agents/default/slow/chats/batch"
    )
    answer = await client.post("/agents/default/worker/invoke", json={"message": "me first"})
    assert answer.json()["reply"] == "me first"
    body = (await client.get(f"/batches/{submitted['batch_id']}")).json()
    assert (body["completed"], body["status"]) == (0, "running")
    await client.post(f"/batches/{submitted['batch_id']}/cancel")


async def test_what_is_no_batch_is_refused_whole(talks: Talks, client: httpx.AsyncClient) -> None:
    good = {"message": "x"}
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"inputs": []},
        {"inputs": ["x"]},
        {"inputs": [{}]},
        {"inputs": [{"message": ""}]},
        {"inputs": [good, {"message": 1}]},
        {"inputs": [{**good, "surprise": 1}]},
        {"inputs": [good], "surprise": 1},
        {"inputs": [good], "delay_seconds": -1},
        {"inputs": [good], "execution_mode": "magic"},
        {"inputs": [{"message": "a\x00b"}]},
        {"inputs": [{"message": "x", "input_variables": {"n": "a\x00b"}}]},
    )
    for body in bodies:
        answer = await client.post(URL, json=body)
        assert answer.status_code == 422, (body, answer.text)
    answer = await client.post(URL, json={"inputs": [good] * 1001})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "inputs")
    assert "MAX_BATCH_SIZE" in answer.json()["detail"]
    answer = await client.post(URL, json={"inputs": [good], "execution_mode": "provider"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "execution_mode")
    for field in ("callback_url", "batch_callback_url"):
        body = {"inputs": [good], field: "https://hooks.example.com/"}
        answer = await client.post(URL, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    nowhere = await client.post("/agents/default/nobody/chats/batch", json={"inputs": [good]})
    assert nowhere.status_code == 404
    limited = await talks.as_.key("user", ["sinas.agents/other/*.chat:all"])
    assert (await limited.post(URL, json={"inputs": [good]})).status_code == 403
    assert (await client.get("/chats")).json() == []


async def test_a_batch_is_its_owners(talks: Talks, client: httpx.AsyncClient) -> None:
    batch_id = (await submit(client, ["x"]))["batch_id"]
    other = await talks.as_("other")
    for method, path in (("GET", ""), ("GET", "/executions"), ("POST", "/cancel")):
        answer = await other.request(method, f"/batches/{batch_id}{path}")
        absent = await other.request(method, f"/batches/{uuid4()}{path}")
        assert answer.status_code == absent.status_code == 404
    reader = await talks.as_.key(
        "admin", ["sinas.executions.read:all", "sinas.executions.update:own"]
    )
    assert (await reader.get(f"/batches/{batch_id}")).status_code == 200
    assert (await reader.post(f"/batches/{batch_id}/cancel")).status_code == 403
    admin = await talks.as_("admin")
    assert (await admin.post(f"/batches/{batch_id}/cancel")).json()["cancelled_children"] == 1


async def test_the_limit_of_a_key_stays_with_its_turns(
    talks: Talks, client: httpx.AsyncClient
) -> None:
    rights = ["sinas.agents/default/worker.chat:all"]
    submitted = await submit(await talks.as_.key("user", rights), ["x"])
    async with talks.context.unit() as unit:
        batch = await unit.session.get(Batch, UUID(submitted["batch_id"]))
        turn = await unit.session.get(Turn, UUID(submitted["execution_ids"][0]))
    assert batch is not None
    assert turn is not None
    assert batch.access == turn.access == dict.fromkeys(rights, True)


async def test_a_large_batch_costs_no_more_statements_than_a_small_one(
    client: httpx.AsyncClient, query_counter: QueryCounter
) -> None:
    counts = []
    for size in (1, 500):
        with query_counter() as queries:
            await submit(client, ["x"] * size)
        counts.append(queries.count)
    assert counts[0] == counts[1], counts
    for path in ("", "/executions?limit=500"):
        with query_counter() as queries:
            batch_id = (await submit(client, ["x"] * 3))["batch_id"]
            before = queries.count
            await client.get(f"/batches/{batch_id}{path}")
            assert queries.count - before <= 3, queries.statements


async def test_chats_of_a_batch_are_listed_with_the_others(
    context: AppContext, client: httpx.AsyncClient, as_: SignIn
) -> None:
    submitted = await submit(client, ["a", "b"])
    listed = (await client.get("/chats", params={"q": f"batch:{submitted['batch_id']}"})).json()
    assert {chat["id"] for chat in listed} == set(submitted["chat_ids"])
    assert all(chat["last_message_at"] is not None for chat in listed)
    async with context.sessions() as session:
        created = await session.scalar(select(func.max(Chat.created_at)))
    assert created is not None
    assert created <= utcnow()
