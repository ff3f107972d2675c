"""Managing webhooks over HTTP; what all resources have in common is in tests/contract."""

from typing import Any

import httpx
import pytest

from sinas.context import AppContext
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.fixtures.client import SignIn

URL = "/api/v1/webhooks"
SIGNATURE = {"secret": "KEY", "header": "X-Signature"}


@pytest.fixture
async def client(context: AppContext, as_: SignIn) -> httpx.AsyncClient:
    user = await as_.user("user")
    await make_function(context, user, name="f")
    await make_agent(context, user, name="Sales Bot", namespace="sales")
    return await as_("user")


async def create(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post(URL, json={"path": "p", "function_name": "f", **fields})


async def test_the_least_and_its_defaults(client: httpx.AsyncClient) -> None:
    answer = await create(client)
    assert answer.status_code == 201, answer.text
    expected = {
        "path": "p",
        "target_type": "function",
        "function_namespace": "default",
        "function_name": "f",
        "agent_namespace": None,
        "agent_name": None,
        "http_method": "POST",
        "description": None,
        "default_values": None,
        "is_active": True,
        "requires_auth": True,
        "response_mode": "sync",
        "dedup": None,
        "signature": None,
        "message_template": None,
        "session_key_template": None,
    }
    body = answer.json()
    assert {key: body[key] for key in expected} == expected
    assert body.keys() - expected.keys() == {"id", "user_id", "created_at", "updated_at"}


async def test_everything_that_can_be_said(client: httpx.AsyncClient) -> None:
    fields = {
        "http_method": "PUT",
        "description": "d",
        "default_values": {"a": 1},
        "requires_auth": False,
        "response_mode": "raw",
        "dedup": {"key": "header:X-Id"},
        "signature": SIGNATURE,
    }
    body = (await create(client, **fields)).json()
    assert body["dedup"] == {"key": "header:X-Id", "ttl_seconds": 300}
    assert body["signature"] == {
        **SIGNATURE,
        "algorithm": "sha256",
        "encoding": "hex",
        "prefix": "",
        "signed_content": "{body}",
        "timestamp_header": None,
        "tolerance_seconds": 300,
    }
    agent = {
        "path": "a",
        "target_type": "agent",
        "agent_namespace": "sales",
        "agent_name": "Sales Bot",
        "message_template": "{{ a }}",
        "session_key_template": "{{ b }}",
    }
    answer = await client.post(URL, json=agent)
    assert answer.status_code == 201, answer.text
    assert agent.items() <= answer.json().items()
    assert answer.json()["function_namespace"] is None


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"function_name": None}, 422, "function_name"),
        ({"agent_name": "x"}, 422, "agent_name"),
        ({"message_template": "x"}, 422, "message_template"),
        ({"target_type": "agent"}, 422, "function_name"),
        ({"target_type": "agent", "function_name": None}, 422, "agent_name"),
        (
            {
                "target_type": "agent",
                "function_name": None,
                "agent_name": "x",
                "response_mode": "raw",
            },
            422,
            "response_mode",
        ),
        (
            {
                "target_type": "agent",
                "function_name": None,
                "agent_name": "x",
                "message_template": "{{ a",
            },
            422,
            "message_template",
        ),
        (
            {
                "target_type": "agent",
                "function_name": None,
                "agent_name": "x",
                "message_template": "x" * 10_001,
            },
            422,
            "message_template",
        ),
        ({"target_type": "pipeline"}, 422, "target_type"),
        ({"path": "a/deliveries"}, 422, "path"),
        ({"path": "deliveries/a"}, 422, "path"),
        ({"path": "a b"}, 422, "path"),
        ({"path": "a?b"}, 422, "path"),
        ({"http_method": "HEAD"}, 422, "http_method"),
        ({"dedup": {"key": "a.b"}}, 422, "dedup.key"),
        ({"dedup": {"key": "$"}}, 422, "dedup.key"),
        ({"dedup": {"key": "$.a", "ttl_seconds": 0}}, 422, "dedup.ttl_seconds"),
        ({"dedup": {"key": "$.a", "ttl_seconds": 86_401}}, 422, "dedup.ttl_seconds"),
        ({"signature": {"secret": "KEY"}}, 422, "signature.header"),
        ({"signature": {**SIGNATURE, "header": "a b"}}, 422, "signature.header"),
        ({"signature": {**SIGNATURE, "algorithm": "md5"}}, 422, "signature.algorithm"),
        ({"signature": {**SIGNATURE, "signed_content": "x"}}, 422, "signature.signed_content"),
        ({"signature": {**SIGNATURE, "timestamp_header": "X-T"}}, 422, "signature"),
        ({"function_name": "nowhere"}, 404, None),
        (
            {"target_type": "agent", "function_name": None, "agent_name": "nowhere"},
            404,
            None,
        ),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await create(client, **fields)
    assert answer.status_code == status, answer.text
    if field is not None:
        assert [entry["field"] for entry in answer.json()["errors"]] == [field]
    assert (await client.get(URL)).json() == []


async def test_a_target_the_caller_may_not_use(client: httpx.AsyncClient, as_: SignIn) -> None:
    rights = ["sinas.webhooks.create:own"]
    limited = await as_.key("user", rights)
    for fields in (
        {},
        {"function_name": "nowhere"},
        {"target_type": "agent", "function_name": None, "agent_name": "nowhere"},
    ):
        answer = await create(limited, **fields)
        assert answer.status_code == 403, (fields, answer.text)


async def test_a_path_is_one_in_the_whole_installation(
    context: AppContext, client: httpx.AsyncClient, as_: SignIn
) -> None:
    await create(client, path="team/hook")
    answer = await create(await as_("other"), path="team/hook", http_method="GET")
    assert answer.status_code == 400
    assert "already exists" in answer.json()["detail"]
    assert (await client.get(f"{URL}/team/hook")).json()["path"] == "team/hook"
    assert (await (await as_("other")).get(f"{URL}/team/hook")).status_code == 404
    assert (await (await as_("admin")).get(f"{URL}/team/hook")).status_code == 200


async def test_changes(client: httpx.AsyncClient) -> None:
    await create(client, dedup={"key": "$.a"}, signature=SIGNATURE, description="d")

    async def change(**fields: Any) -> httpx.Response:
        return await client.patch(f"{URL}/p", json=fields)

    changed = (await change(is_active=False, response_mode="raw", http_method="GET")).json()
    assert (changed["is_active"], changed["response_mode"]) == (False, "raw")
    assert changed["dedup"] == {"key": "$.a", "ttl_seconds": 300}
    removed = (await change(dedup=None, signature=None, description=None, is_active=None)).json()
    assert (removed["dedup"], removed["signature"], removed["description"]) == (None, None, None)
    assert removed["is_active"] is False
    assert (await change(path="q")).status_code == 422
    assert (await change(function_name="nowhere")).status_code == 404
    assert (await change(function_name=None)).status_code == 422
    wrong = await change(target_type="agent", agent_namespace="sales", agent_name="Sales Bot")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "response_mode")
    other = await change(
        target_type="agent",
        agent_namespace="sales",
        agent_name="Sales Bot",
        response_mode="sync",
        message_template="{{ a }}",
    )
    assert other.status_code == 200, other.text
    assert (other.json()["function_name"], other.json()["agent_name"]) == (None, "Sales Bot")
    back = await change(target_type="function", function_name="f")
    assert back.status_code == 200, back.text
    assert (back.json()["agent_name"], back.json()["message_template"]) == (None, None)
    assert back.json()["function_namespace"] == "default"


async def test_a_gone_target_does_not_keep_the_rest_from_being_changed(
    client: httpx.AsyncClient,
) -> None:
    await create(client)
    await client.delete("/api/v1/functions/default/f")
    answer = await client.patch(f"{URL}/p", json={"is_active": False})
    assert (answer.status_code, answer.json()["is_active"]) == (200, False)


async def test_who_may_read_need_not_be_who_may_change(
    client: httpx.AsyncClient, as_: SignIn
) -> None:
    await create(client)
    reader = await as_.key("admin", ["sinas.webhooks.read:all", "sinas.webhooks.update:own"])
    assert (await reader.get(f"{URL}/p")).status_code == 200
    assert (await reader.patch(f"{URL}/p", json={})).status_code == 403
    assert (await (await as_("admin")).delete(f"{URL}/p")).status_code == 204
    assert (await client.get(f"{URL}/p")).status_code == 404
