"""Repetitions, the record of calls, and sending one again."""

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select, update

from sinas.auth.permissions import ADMIN_ROLE
from sinas.context import AppContext
from sinas.kit.time import utcnow
from sinas.models import Execution, User, Webhook, WebhookDelivery
from sinas.resources.webhooks.jobs import purge_deliveries
from sinas.worker import RunningWorker
from tests.factories.functions import ECHO, make_function
from tests.factories.identity import make_user
from tests.factories.webhooks import make_delivery, make_webhook
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed

BY_ID = {"key": "$.event.id", "ttl_seconds": 60}
# Fails as long as it is told to.
MOODY = """
def handler(input_data, context):
    if input_data.get("fail"):
        raise ValueError("not yet")
    return context["execution_id"]
"""


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("owner")


async def hook(context: AppContext, owner: User, code: str = ECHO, **columns: Any) -> Webhook:
    return await make_webhook(context, owner, await make_function(context, owner, code), **columns)


async def rows(as_: SignIn, path: str, **params: Any) -> list[dict[str, Any]]:
    answer = await (await as_("owner")).get(f"/api/v1/webhooks/{path}/deliveries", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def executions(context: AppContext) -> int:
    async with context.sessions() as session:
        return len((await session.scalars(select(Execution.id))).all())


def event(key: Any, **more: Any) -> dict[str, Any]:
    return {"event": {"id": key}, **more}


@pytest.mark.parametrize("mode", ["sync", "raw"])
async def test_a_repetition_gets_the_first_answer(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
    mode: str,
) -> None:
    await hook(context, owner, MOODY, path="d", dedup=BY_ID, response_mode=mode)
    first = await client.post("/webhooks/d", json=event(1))
    again = await client.post("/webhooks/d", json=event(1, other="field"))
    other = await client.post("/webhooks/d", json=event(2))
    assert first.status_code == again.status_code == 200
    assert (again.content, again.headers["x-execution-id"]) == (
        first.content,
        first.headers["x-execution-id"],
    )
    assert other.content != first.content
    assert await executions(context) == 2
    found = await rows(as_, "d")
    assert [row["status"] for row in found] == ["succeeded", "duplicate", "succeeded"]
    assert found[1]["execution_id"] == first.headers["x-execution-id"]


async def test_a_repetition_by_header_of_a_call_nobody_waits_for(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    dedup = {"key": "header:X-Delivery", "ttl_seconds": 60}
    await hook(context, owner, path="d", dedup=dedup, response_mode="async")
    first = await client.post("/webhooks/d", json={}, headers={"X-Delivery": "1"})
    again = await client.post("/webhooks/d", json={}, headers={"x-delivery": "1"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {"deduplicated": True}
    for _ in range(2):  # without a value, none is a repetition
        assert (await client.post("/webhooks/d", json={})).status_code == 202
    assert await executions(context) == 3


async def test_a_repetition_while_the_first_call_runs(
    context: AppContext, client: httpx.AsyncClient, owner: User, function_worker: RunningWorker
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(1)\n    return 1"
    await hook(context, owner, code, path="d", dedup=BY_ID)
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(client.post("/webhooks/d", json=event("same"))) for _ in range(8)
        ]
    bodies = [task.result().json() for task in calls]
    assert sum(body.get("success", False) for body in bodies) == 1
    assert bodies.count({"deduplicated": True}) == 7
    assert await executions(context) == 1


async def test_a_failed_call_does_not_block_the_next_try(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    await hook(context, owner, MOODY, path="d", dedup=BY_ID)
    assert (await client.post("/webhooks/d", json=event(1, fail=True))).status_code == 500
    assert (await client.post("/webhooks/d", json=event(1))).status_code == 200
    # Now there is one that has not failed.
    again = await client.post("/webhooks/d", json=event(1, fail=True))
    assert again.status_code == 200
    assert [row["status"] for row in await rows(as_, "d")] == ["duplicate", "succeeded", "failed"]


async def test_what_could_not_start_does_not_block_the_next_try(
    context: AppContext, client: httpx.AsyncClient, owner: User, function_worker: RunningWorker
) -> None:
    function = await make_function(context, owner, is_active=False)
    await make_webhook(context, owner, function, path="d", dedup=BY_ID)
    assert (await client.post("/webhooks/d", json=event(1))).status_code == 404
    async with context.unit() as unit:
        (await unit.session.merge(function)).is_active = True
    assert (await client.post("/webhooks/d", json=event(1))).status_code == 200


async def test_a_call_older_than_the_ttl_is_no_first_one(
    context: AppContext, client: httpx.AsyncClient, owner: User, function_worker: RunningWorker
) -> None:
    await hook(context, owner, path="d", dedup=BY_ID)
    await client.post("/webhooks/d", json=event(1))
    async with context.unit() as unit:
        past = utcnow() - timedelta(seconds=61)
        await unit.session.execute(update(WebhookDelivery).values(received_at=past))
    await client.post("/webhooks/d", json=event(1))
    assert await executions(context) == 2


async def test_the_same_value_at_another_webhook_is_another_call(
    context: AppContext, client: httpx.AsyncClient, owner: User, function_worker: RunningWorker
) -> None:
    for path in ("d", "e"):
        await hook(context, owner, path=path, dedup=BY_ID)
        await client.post(f"/webhooks/{path}", json=event(1))
    assert await executions(context) == 2


async def test_nobody_gets_the_answer_to_somebody_elses_call(
    context: AppContext, as_: SignIn, owner: User, function_worker: RunningWorker
) -> None:
    code = "def handler(i, c):\n    return c['user_email']"
    await hook(context, owner, code, path="d", dedup=BY_ID, requires_auth=True)
    for who in ("owner", "admin", "owner"):
        answer = await (await as_(who)).post("/webhooks/d", json=event(1))
        assert answer.json()["result"] == f"{who}@example.com"
    assert await executions(context) == 2


async def test_deliveries_are_listed_and_read(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    await hook(context, owner, MOODY, path="a/b")
    for number in range(3):
        headers = {"X-Number": str(number), "Authorization": "Bearer s", "X-Api-Key": "s"}
        given = {"fail": number == 1, "n": number}
        await client.post(f"/webhooks/a/b?n={number}", json=given, headers=headers)
    found = await rows(as_, "a/b")
    assert [row["query"] for row in found] == ["n=2", "n=1", "n=0"]
    assert [row["status"] for row in found] == ["succeeded", "failed", "succeeded"]
    assert found == await rows(as_, "a/b", limit=2) + await rows(as_, "a/b", skip=2)
    assert await rows(as_, "a/b", status="FAILED") == [found[1]]
    assert found[0].keys() == {
        *("id", "received_at", "method", "query", "headers", "content_type", "body_bytes"),
        *("client_address", "user_id", "status", "error", "execution_id", "chat_id", "job_id"),
        "replay_of",
    }
    assert found[0]["headers"]["x-number"] == "2"
    assert {"authorization", "x-api-key"}.isdisjoint(found[0]["headers"])
    owners = await as_("owner")
    url = f"/api/v1/webhooks/a/b/deliveries/{found[0]['id']}"
    one = (await owners.get(url)).json()
    assert {**found[0], "body": '{"fail":false,"n":2}', "body_base64": None} == one
    for params in ({"status": "nonsense"}, {"limit": 0}, {"skip": -1}):
        answer = await owners.get("/api/v1/webhooks/a/b/deliveries", params=params)
        assert answer.status_code == 422
    absent = await owners.get(f"/api/v1/webhooks/a/b/deliveries/{uuid4()}")
    assert absent.status_code == 404
    stranger = await as_("other")
    assert (await stranger.get("/api/v1/webhooks/a/b/deliveries")).status_code == 404
    assert (await stranger.get(url)).status_code == 404
    assert (await stranger.post(f"{url}/replay")).status_code == 404


async def test_a_body_that_is_no_text_is_read_in_base64(
    context: AppContext, as_: SignIn, owner: User
) -> None:
    webhook = await hook(context, owner, path="b")
    kept = await make_delivery(context, webhook, body=b"\xff", body_bytes=1)
    answer = await (await as_("owner")).get(f"/api/v1/webhooks/b/deliveries/{kept.id}")
    assert (answer.json()["body"], answer.json()["body_base64"]) == (None, "/w==")


async def test_a_delivery_can_be_sent_again(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    code = "def handler(i, c):\n    return [i, c['webhook'], c['user_email']]"
    await hook(context, owner, code, path="r", dedup=BY_ID)
    first = await client.post("/webhooks/r?q=1", json=event(1), headers={"X-Event": "e"})
    [row] = await rows(as_, "r")
    owners = await as_("owner")
    answer = await owners.post(f"/api/v1/webhooks/r/deliveries/{row['id']}/replay")
    assert answer.status_code == 202, answer.text
    replayed = answer.json()
    assert replayed.keys() == {"delivery_id", "execution_id", "chat_id", "job_id"}
    async with asyncio.timeout(20):
        while (newest := (await rows(as_, "r"))[0])["status"] != "succeeded":
            await asyncio.sleep(0.02)
    assert (newest["id"], newest["replay_of"]) == (replayed["delivery_id"], row["id"])
    result = (await owners.get(f"/executions/{replayed['execution_id']}")).json()["output_data"]
    given, seen, email = result
    assert (given, email) == (event(1), "owner@example.com")
    before = first.json()["result"][1]
    changing = {"delivery_id", "replay_of"}
    assert {k: v for k, v in seen.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert seen["replay_of"] == row["id"]
    # A replay may be replayed, and neither makes the sender's next call run again.
    again = await owners.post(f"/api/v1/webhooks/r/deliveries/{newest['id']}/replay")
    assert again.status_code == 202
    await client.post("/webhooks/r", json=event(1))
    assert await executions(context) == 3


async def test_what_cannot_be_sent_again(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    webhook = await hook(context, owner, path="r", requires_auth=True)
    large = await make_delivery(context, webhook, body=None, body_bytes=10_000_000)
    await client.post("/webhooks/r", json={})
    [rejected] = await rows(as_, "r", status="rejected")
    owners = await as_("owner")
    for key in (large.id, rejected["id"]):
        answer = await owners.post(f"/api/v1/webhooks/r/deliveries/{key}/replay")
        assert answer.status_code == 409, answer.text
    kept = await make_delivery(context, webhook)
    reader = await as_.key("owner", ["sinas.webhooks.read:own"])
    url = f"/api/v1/webhooks/r/deliveries/{kept.id}/replay"
    assert (await reader.post(url)).status_code == 403
    weak = await as_.key("owner", ["sinas.webhooks.update:own", "sinas.webhooks.read:own"])
    assert (await weak.post(url)).status_code == 403  # may not execute the function
    await owners.patch("/api/v1/webhooks/r", json={"is_active": False})
    assert (await owners.post(url)).status_code == 409
    assert await executions(context) == 0


async def test_somebody_elses_call_only_admins_send_again_with_its_own_rights(
    context: AppContext, as_: SignIn, owner: User, function_worker: RunningWorker
) -> None:
    code = "def handler(i, c):\n    return [c['user_email'], c['access_token']]"
    webhook = await hook(context, owner, code, path="r", requires_auth=True)
    rights = [f"sinas.functions/default/{webhook.function_name}.execute:all"]
    await (await as_.key("admin", rights)).post("/webhooks/r", json={})
    [row] = await rows(as_, "r")
    url = f"/api/v1/webhooks/r/deliveries/{row['id']}/replay"
    assert (await (await as_("owner")).post(url)).status_code == 403
    second = await make_user(context, email="second@example.com", roles=(ADMIN_ROLE,))
    # Their own call they make as they are signed in now, somebody else's as that one did.
    for client, limit in ((await as_("admin"), None), (await as_(second), tuple(rights))):
        replayed = (await client.post(url)).json()
        async with asyncio.timeout(20):
            while (await rows(as_, "r"))[0]["status"] != "succeeded":
                await asyncio.sleep(0.02)
        found = (await client.get(f"/executions/{replayed['execution_id']}")).json()
        email, token = found["output_data"]
        assert (email, context.signer.read(token).limit) == ("admin@example.com", limit)


async def test_bodies_are_kept_up_to_the_limit(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    most = context.settings.webhook.max_stored_bytes
    await hook(context, owner, path="r", response_mode="async")
    for size in (most, most + 1):
        await client.post("/webhooks/r", content=b"x" * size)
    larger, kept = await rows(as_, "r")
    owners = await as_("owner")
    for row, size, is_kept in ((kept, most, True), (larger, most + 1, False)):
        assert row["body_bytes"] == size
        one = (await owners.get(f"/api/v1/webhooks/r/deliveries/{row['id']}")).json()
        assert (one["body"] is not None) is is_kept


async def test_old_deliveries_are_purged(context: AppContext, as_: SignIn, owner: User) -> None:
    webhook = await hook(context, owner, path="p")
    old = utcnow() - timedelta(days=3)
    await make_delivery(context, webhook, received_at=old)
    recent = await make_delivery(context, webhook, received_at=utcnow() - timedelta(hours=20))
    for days, left in ((7, 2), (2, 1), (0, 1)):
        settings = changed(context.settings, webhook={"retention_days": days})
        await purge_deliveries(dataclasses.replace(context, settings=settings))
        assert len(await rows(as_, "p")) == left, days
    assert (await rows(as_, "p"))[0]["id"] == str(recent.id)
