"""Calling webhooks of functions over HTTP, with a real worker."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from sinas.context import AppContext
from sinas.models import DeliveryStatus, Execution, User, Webhook
from sinas.worker import RunningWorker
from tests.factories.chats import make_agent, make_chat
from tests.factories.functions import ECHO, make_function
from tests.factories.secrets import make_secret
from tests.factories.webhooks import make_webhook
from tests.fixtures.client import SignIn
from tests.fixtures.database import QueryCounter
from tests.resources.webhooks.test_signatures import BODY, GITHUB, SECRET, mac

CONTEXT = "def handler(input_data, context):\n    return context"
USER = (
    "def handler(input_data, context):\n    return [context['user_email'], context['trigger_type']]"
)
FAIL = "def handler(input_data, context):\n    raise ValueError('the reason')"


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("owner")


async def hook(
    context: AppContext, owner: User, code: str = ECHO, *, function: Any = None, **columns: Any
) -> Webhook:
    target = await make_function(context, owner, code, **(function or {}))
    return await make_webhook(context, owner, target, **columns)


async def deliveries(as_: SignIn, webhook: Webhook) -> list[dict[str, Any]]:
    client = await as_("owner")
    found = await client.get(f"/api/v1/webhooks/{webhook.path}/deliveries")
    assert found.status_code == 200, found.text
    rows: list[dict[str, Any]] = found.json()
    return rows


async def test_a_sync_call_answers_the_result(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    webhook = await hook(context, owner, path="team/a/b-1", default_values={"x": 1, "y": 2})
    answer = await client.post("/webhooks/team/a/b-1", json={"x": 5})
    body = answer.json()
    assert (answer.status_code, body.keys()) == (200, {"success", "execution_id", "result"})
    assert (body["success"], body["result"]) == (True, {"x": 5, "y": 2})
    assert answer.headers["x-execution-id"] == body["execution_id"]
    row = (await (await as_("owner")).get(f"/executions/{body['execution_id']}")).json()
    assert (row["trigger_type"], row["trigger_id"]) == ("WEBHOOK", str(webhook.id))
    [delivery] = await deliveries(as_, webhook)
    assert (delivery["status"], delivery["execution_id"]) == ("succeeded", body["execution_id"])
    assert (delivery["user_id"], delivery["method"]) == (str(owner.id), "POST")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_every_method_and_no_other(
    context: AppContext,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
    method: str,
) -> None:
    await hook(context, owner, path="m", http_method=method)
    answer = await client.request(method, "/webhooks/m", params={"q": "1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == ({"q": "1"} if method == "GET" else {})
    for other in {"GET", "POST", "PUT", "DELETE", "PATCH"} - {method}:
        assert (await client.request(other, "/webhooks/m")).status_code == 404
    assert (await client.request("HEAD", "/webhooks/m")).status_code == 405


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"data": {"a": "1", "b": ["x", "y"]}}, {"a": "1", "b": ["x", "y"]}),
        (
            {"files": {"f": ("n.txt", b"hi", "text/plain")}, "data": {"a": "1"}},
            {
                "a": "1",
                "f": {
                    "filename": "n.txt",
                    "content_type": "text/plain",
                    "content_base64": "aGk=",
                },
            },
        ),
        ({"content": b"plain text"}, {"body": "plain text"}),
        ({"content": b"\xff\x00"}, {"body": "/wA=", "encoding": "base64"}),
        ({"json": [1, 2]}, {"input": [1, 2]}),
        ({"json": None, "headers": {"content-type": "application/json"}}, {}),
    ],
)
async def test_no_body_is_lost(
    context: AppContext,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
    given: dict[str, Any],
    result: Any,
) -> None:
    await hook(context, owner, path="bodies")
    answer = await client.post("/webhooks/bodies", **given)
    assert (answer.status_code, answer.json().get("result")) == (200, result), answer.text


async def test_the_function_sees_the_request_without_credentials(
    context: AppContext, as_: SignIn, owner: User, function_worker: RunningWorker
) -> None:
    await hook(context, owner, CONTEXT, path="see", requires_auth=True)
    client = await as_("owner")
    answer = await client.post(
        "/webhooks/see?a=1&a=2&b=3",
        json={},
        headers={"X-Event": "push", "Cookie": "s=1", "X-Gitlab-Token": "t"},
    )
    seen = answer.json()["result"]
    webhook = seen["webhook"]
    assert (webhook["method"], webhook["path"]) == ("POST", "see")
    assert webhook["query"] == {"a": ["1", "2"], "b": "3"}
    assert webhook["content_type"] == "application/json"
    assert webhook["headers"]["x-event"] == "push"
    assert {"authorization", "cookie", "x-gitlab-token"}.isdisjoint(webhook["headers"])
    assert client.headers["authorization"].split()[1] not in str(webhook)
    assert seen["trigger_type"] == "WEBHOOK"
    assert seen["execution_id"] == answer.json()["execution_id"]


async def test_nobody_finds_what_is_not_there(
    context: AppContext, client: httpx.AsyncClient, owner: User
) -> None:
    await hook(context, owner, path="off", is_active=False)
    for path in ("off", "nowhere", "off/", "/off", "", "off%00"):
        answer = await client.post(f"/webhooks/{path}", json={})
        assert answer.status_code in (404, 422), (path, answer.text)


async def test_who_may_call_and_as_whom(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    webhook = await hook(
        context, owner, USER, function={"name": "f"}, path="auth", requires_auth=True
    )
    answer = await client.post("/webhooks/auth", json={})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    wrong = {"Authorization": "Bearer nonsense"}
    assert (await client.post("/webhooks/auth", json={}, headers=wrong)).status_code == 401
    # `execute:own` is the webhook owner's alone here, whoever owns the function.
    assert (await (await as_("other")).post("/webhooks/auth", json={})).status_code == 403
    limited = await as_.key("owner", ["sinas.functions/default/other.execute:own"])
    assert (await limited.post("/webhooks/auth", json={})).status_code == 403
    for who, caller in (
        (await as_("owner"), "owner@example.com"),
        (await as_.key("owner", ["sinas.functions/default/f.execute:own"]), "owner@example.com"),
        (await as_("admin"), "admin@example.com"),
        (
            await as_.key("admin", ["sinas.functions/default/f.execute:all"]),
            "admin@example.com",
        ),
    ):
        answer = await who.post("/webhooks/auth", json={})
        assert (answer.status_code, answer.json().get("result")) == (200, [caller, "WEBHOOK"])
    statuses = [row["status"] for row in await deliveries(as_, webhook)]
    assert statuses == ["succeeded"] * 4 + ["rejected"] * 4
    rejected = (await deliveries(as_, webhook))[-1]
    assert (rejected["user_id"], rejected["execution_id"]) == (None, None)


async def test_without_signing_in_it_runs_as_its_owner(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    function = await make_function(context, await as_.user("author"), USER)
    await make_webhook(context, owner, function, path="open")
    answer = await client.post("/webhooks/open", json={})
    assert answer.json()["result"] == ["owner@example.com", "WEBHOOK"]
    # Whoever signs in where nobody has to, still calls as the owner.
    answer = await (await as_("admin")).post("/webhooks/open", json={})
    assert answer.json()["result"] == ["owner@example.com", "WEBHOOK"]


async def test_an_owner_who_may_not_or_is_gone_gives_no_rights(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    guest = await as_.user("guest")
    function = await make_function(context, guest)
    webhook = await make_webhook(context, guest, function, path="guests")
    answer = await client.post("/webhooks/guests", json={})
    assert answer.status_code == 404
    assert function.name not in answer.text
    async with context.unit() as unit:
        user = await unit.session.get(User, guest.id)
        assert user is not None
        user.is_active = False
    assert (await client.post("/webhooks/guests", json={})).status_code == 403
    admin = await as_("admin")
    rows = (await admin.get(f"/api/v1/webhooks/{webhook.path}/deliveries")).json()
    assert [row["status"] for row in rows] == ["rejected", "failed"]
    assert "execute:own" in rows[1]["error"]


async def test_async_answers_at_once(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    webhook = await hook(context, owner, path="later", response_mode="async")
    answer = await client.post("/webhooks/later", json={"a": 1})
    assert (answer.status_code, answer.json().keys()) == (202, {"execution_id"})
    async with asyncio.timeout(20):
        while (await deliveries(as_, webhook))[0]["status"] != "succeeded":
            await asyncio.sleep(0.02)
    row = await (await as_("owner")).get(f"/executions/{answer.json()['execution_id']}")
    assert row.json()["output_data"] == {"a": 1}


@pytest.mark.parametrize("mode", ["sync", "raw"])
async def test_failures_say_what_failed_and_no_more(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
    mode: str,
) -> None:
    webhook = await hook(context, owner, FAIL, path="fails", response_mode=mode)
    answer = await client.post("/webhooks/fails", json={})
    problem = answer.json()
    assert answer.status_code == 500
    assert problem["detail"] == "Function execution failed: ValueError: the reason"
    assert problem["code"] == "function_failed"
    assert "line" not in answer.text
    assert "Traceback" not in answer.text
    [delivery] = await deliveries(as_, webhook)
    assert delivery["status"] == "failed"
    assert delivery["execution_id"] == answer.headers["x-execution-id"]


async def test_a_function_that_takes_too_long_is_504(
    context: AppContext, client: httpx.AsyncClient, owner: User, function_worker: RunningWorker
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(30)"
    await hook(context, owner, code, function={"timeout": 1}, path="slow")
    answer = await client.post("/webhooks/slow", json={})
    assert answer.status_code == 504
    assert answer.json()["detail"] == "Function execution failed: Execution timeout after 1s"


async def test_bad_input_is_the_callers_fault(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    webhook = await hook(context, owner, function={"input_schema": schema}, path="strict")
    answer = await client.post("/webhooks/strict", json={"n": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "input.n"
    execution_id = answer.headers["x-execution-id"]
    bad = {"content": b"{", "headers": {"content-type": "application/json"}}
    answer = await client.post("/webhooks/strict", **bad)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert "not valid JSON" in answer.json()["detail"]
    answer = await client.post("/webhooks/strict", json={"n": 1, "x": "a\x00b"})
    assert answer.status_code == 422
    rows = await deliveries(as_, webhook)
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert [row["execution_id"] for row in rows] == [None, None, execution_id]
    assert "JSON" in rows[1]["error"]


async def test_a_body_that_is_too_large(
    context: AppContext, client: httpx.AsyncClient, owner: User
) -> None:
    await hook(context, owner, path="large")
    answer = await client.post("/webhooks/large", json={"x": "x" * 7_000_000})
    assert answer.status_code == 413
    answer = await client.post("/webhooks/large", content=b"x" * (33 * 1024 * 1024))
    assert answer.status_code == 413


async def test_a_target_that_is_gone(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    webhook = await hook(context, owner, function={"is_active": False, "name": "f"}, path="gone")
    answer = await client.post("/webhooks/gone", json={})
    assert answer.status_code == 404
    assert "default/f" not in answer.text
    [delivery] = await deliveries(as_, webhook)
    assert (delivery["status"], "default/f" in delivery["error"]) == ("failed", True)


async def test_a_signature_is_asked_for_and_checked(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    signature = {"secret": "HOOK", **GITHUB}
    webhook = await hook(context, owner, path="signed", signature=signature)
    headers = {"X-Hub-Signature-256": "sha256=" + mac(BODY).hex(), "content-type": "text/plain"}

    async def call(body: bytes = BODY, **more: str) -> httpx.Response:
        return await client.post("/webhooks/signed", content=body, headers={**headers, **more})

    missing = await call()
    assert (missing.status_code, missing.headers["retry-after"]) == (503, "60")
    assert "HOOK" not in missing.text
    await make_secret(context, await as_.user("other"), SECRET, name="HOOK")
    assert (await call()).status_code == 503  # somebody else's does not count
    await make_secret(context, owner, SECRET, name="HOOK")
    assert (await call()).json()["result"] == {"body": BODY.decode()}
    assert (await call(BODY + b"!")).status_code == 401
    assert (await call(BODY, **{"X-Hub-Signature-256": "sha256=00"})).status_code == 401
    rows = await deliveries(as_, webhook)
    assert [row["status"] for row in rows] == [
        *("rejected", "rejected", "succeeded", "failed", "failed"),
    ]
    assert "HOOK" in rows[-1]["error"]
    detail = await (await as_("owner")).get(f"/api/v1/webhooks/signed/deliveries/{rows[0]['id']}")
    assert (detail.json()["body"], detail.json()["error"]) == (None, "The signature is wrong.")


async def test_a_chat_is_linked_only_if_it_is_the_callers(
    context: AppContext, as_: SignIn, owner: User, function_worker: RunningWorker
) -> None:
    await hook(context, owner, path="chat", requires_auth=True)
    await hook(context, owner, path="open-chat")
    agent = await make_agent(context, owner)
    own = await make_chat(context, owner, agent)
    others = await make_chat(context, await as_.user("other"), agent)
    client = await as_("owner")

    async def call(path: str, chat: object) -> httpx.Response:
        return await client.post(f"/webhooks/{path}", json={}, headers={"X-Chat-ID": str(chat)})

    answer = await call("chat", own.id)
    row = (await client.get(f"/executions/{answer.json()['execution_id']}")).json()
    assert UUID(row["chat_id"]) == own.id
    for path, chat in (("chat", others.id), ("chat", "nonsense"), ("open-chat", own.id)):
        answer = await call(path, chat)
        assert answer.status_code == 404, (path, chat)
        assert "X-Chat-ID" in answer.json()["detail"]


async def test_rejected_calls_are_recorded_only_so_often(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient, owner: User
) -> None:
    webhook = await hook(context, owner, path="attacked", requires_auth=True)
    for _ in range(105):
        assert (await client.post("/webhooks/attacked", json={})).status_code == 401
    owners = await as_("owner")
    url = f"/api/v1/webhooks/{webhook.path}/deliveries"
    rows = (await owners.get(url, params={"status": DeliveryStatus.REJECTED, "limit": 1000})).json()
    assert len(rows) == 100


async def test_a_call_costs_two_statements_more_than_executing(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    query_counter: QueryCounter,
) -> None:
    """Without a worker, whose statements would be counted, too."""
    await hook(context, owner, function={"name": "f"}, path="count", response_mode="async")
    signed_in = await as_("owner")
    with query_counter() as executing:
        await signed_in.post("/functions/default/f/execute/async", json={})
    with query_counter() as calling:
        assert (await client.post("/webhooks/count", json={})).status_code == 202
    assert calling.count == executing.count + 2, calling.statements


async def test_a_limited_key_cannot_save_more_rights_than_it_has(
    context: AppContext,
    as_: SignIn,
    client: httpx.AsyncClient,
    owner: User,
    function_worker: RunningWorker,
) -> None:
    await make_function(context, owner, ECHO, name="f")
    may = ["sinas.webhooks.create:own", "sinas.webhooks.update:own", "sinas.webhooks.read:own"]
    may.append("sinas.functions/default/f.execute:own")
    key = await as_.key("owner", may)
    body = {"path": "open", "function_name": "f", "requires_auth": False}
    assert (await key.post("/api/v1/webhooks", json=body)).status_code == 201

    async def limit() -> dict[str, bool] | None:
        called = await client.post("/webhooks/open", json={})
        assert called.status_code == 200, called.text
        async with context.unit() as unit:
            execution = await unit.session.get(Execution, UUID(called.json()["execution_id"]))
            assert execution is not None
            return execution.access

    assert await limit() == dict.fromkeys(sorted(may), True)
    whole = await as_("owner")
    await whole.patch("/api/v1/webhooks/open", json={"description": "mine"})
    assert await limit() is not None
    await whole.patch("/api/v1/webhooks/open", json={"default_values": {"x": 1}})
    assert await limit() is None
    await key.patch("/api/v1/webhooks/open", json={"default_values": {"x": 2}})
    assert await limit() is not None
