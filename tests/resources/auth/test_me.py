"""Who the caller is and what they may do, from one query."""

import asyncio

import pytest
from sqlalchemy import select, update

from sinas.kit.time import utcnow
from sinas.models import ApiKey, RolePermission, User, UserRole
from tests.factories.identity import make_api_key, make_user

DEFAULT_GRANT = "sinas.agents/sales/bot.chat:all"


async def test_me(as_):
    body = (await (await as_("guest")).get("/auth/me")).json()
    assert body.keys() == {"id", "email", "last_login_at", "created_at", "roles"}
    assert body["email"] == "guest@example.com"
    assert body["roles"] == ["GuestUsers"]
    assert body["created_at"].endswith("Z")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer rubbish"},
        {"Authorization": "Bearer a.b.c"},
        {"X-API-Key": "rubbish"},
        {"X-API-Key": "ä".encode("latin-1")},
    ],
)
async def test_without_a_valid_credential(client, headers):
    answer = await client.get("/auth/me", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["detail"]


async def test_an_api_key_works_in_both_headers_and_x_api_key_wins(client, context):
    key_owner = await make_user(context)
    _, key = await make_api_key(context, key_owner)
    for headers in (
        {"X-API-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"X-API-Key": key, "Authorization": "Bearer rubbish"},
    ):
        answer = await client.get("/auth/me", headers=headers)
        assert answer.json()["email"] == key_owner.email


@pytest.mark.parametrize("credential", ["token", "key"])
async def test_one_query_and_no_write(as_, context, query_counter, credential):
    client = await (as_("user") if credential == "token" else as_.key("user"))
    await client.get("/auth/me")
    if credential == "key":
        await stamped(context)
    with query_counter() as queries:
        assert (await client.get("/auth/me")).status_code == 200
        body = {"permissions": [DEFAULT_GRANT]}
        assert (await client.post("/auth/check-permissions", json=body)).status_code == 200
    assert queries.count == 2, queries.statements
    assert all(each.startswith("SELECT") for each in queries.statements)


async def stamped(context):
    """Wait for the one write a minute that tells when a key was used."""
    async with asyncio.timeout(5):
        while True:
            async with context.unit() as unit:
                if await unit.session.scalar(select(ApiKey.last_used_at)):
                    return


async def test_a_key_is_stamped_as_used_beside_the_request(as_, context):
    client = await as_.key("user")
    assert (await client.get("/auth/me")).status_code == 200
    await stamped(context)
    assert (await client.get("/api/v1/api-keys")).json()[0]["last_used_at"]


async def test_an_expired_or_revoked_key_is_refused(client, context):
    user = await make_user(context)
    _, expired = await make_api_key(context, user, expires_at=utcnow())
    _, revoked = await make_api_key(context, user, is_active=False)
    for key in (expired, revoked):
        answer = await client.get("/auth/me", headers={"X-API-Key": key})
        assert answer.status_code == 401


async def test_a_deactivated_users_credentials_end_at_once(as_, context):
    token, key = await as_("user"), await as_.key("user")
    async with context.unit() as unit:
        await unit.session.execute(update(User).values(is_active=False))
    for client in (token, key):
        assert (await client.get("/auth/me")).status_code == 401


async def check(client, *permissions, logic=None):
    body = {"permissions": list(permissions)} | ({"logic": logic} if logic else {})
    answer = await client.post("/auth/check-permissions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_check_permissions(as_):
    client = await as_("user")
    found = await check(client, DEFAULT_GRANT, "sinas.roles.create:own")
    assert found == {
        "result": False,
        "logic": "AND",
        "checks": [
            {"permission": DEFAULT_GRANT, "has_permission": True},
            {"permission": "sinas.roles.create:own", "has_permission": False},
        ],
    }
    assert (await check(client, DEFAULT_GRANT, "rubbish", logic="OR"))["result"] is True
    assert (await check(client, DEFAULT_GRANT))["result"] is True
    assert (await check(client, "", logic="OR"))["result"] is False
    assert (await check(client))["result"] is True


async def test_check_permissions_refuses_what_no_client_needs(as_):
    client = await as_("user")
    for body in (
        {"permissions": ["x" * 513]},
        {"permissions": ["x"] * 1001},
        {"permissions": "x"},
        {"permissions": [], "logic": "XOR"},
        {},
    ):
        answer = await client.post("/auth/check-permissions", json=body)
        assert answer.status_code == 422, body


async def test_role_changes_act_at_once(as_, context):
    client = await as_("user")
    assert (await check(client, DEFAULT_GRANT))["result"] is True
    async with context.unit() as unit:
        await unit.session.execute(update(UserRole).values(active=False))
    assert (await check(client, DEFAULT_GRANT))["result"] is False
    assert (await client.get("/auth/me")).json()["roles"] == []


async def test_true_in_any_role_wins_over_false(as_, context):
    user = await make_user(context, permissions=["sinas.system.read:all"])
    client = await as_(user)
    async with context.unit() as unit:
        users = await unit.session.scalar(
            update(RolePermission)
            .where(RolePermission.permission_key == "sinas.executions.read:own")
            .values(permission_value=False)
            .returning(RolePermission.role_id)
        )
        unit.session.add(
            RolePermission(
                role_id=users, permission_key="sinas.system.read:all", permission_value=False
            )
        )
    assert (await check(client, "sinas.system.read:all"))["result"] is True
    assert (await check(client, "sinas.executions.read:own"))["result"] is False


async def test_a_limited_key_has_what_both_allow(as_, context):
    client = await as_.key("user", ["sinas.*:own", "sinas.roles.create:all"])
    assert (await check(client, "sinas.api_keys.create:own"))["result"] is True
    assert (await check(client, DEFAULT_GRANT))["result"] is False
    assert (await check(client, "sinas.roles.create:own"))["result"] is False
    async with context.unit() as unit:
        await unit.session.execute(update(ApiKey).values(permissions={}))
    assert (await check(client, "sinas.api_keys.create:own"))["result"] is False
