"""API keys over HTTP."""

from datetime import timedelta
from uuid import uuid4

import pytest

from sinas.auth.tokens import AccessClaims
from sinas.kit.crypto import sha256_hex
from sinas.kit.time import utcnow
from sinas.models import ApiKey

URL = "/api/v1/api-keys"


async def create(client, **body):
    return await client.post(URL, json={"name": "ci", **body})


async def test_create_use_list_and_revoke(as_, client, context):
    owner = await as_("user")
    answer = await create(owner, permissions={"sinas.users.read:own": True})
    assert answer.status_code == 201
    made = answer.json()
    assert len(made["key"]) == 43
    assert made["key_prefix"] == made["key"][:8]
    assert made["permissions"] == {"sinas.users.read:own": True}
    assert made["inherits"] is False
    headers = {"X-API-Key": made["key"]}
    assert (await client.get("/auth/me", headers=headers)).status_code == 200
    async with context.unit() as unit:
        row = await unit.session.get(ApiKey, made["id"])
        assert row.key_hash == sha256_hex(made["key"])

    (listed,) = (await owner.get(URL)).json()
    assert listed.keys() == {
        *("id", "user_id", "user_email", "name", "key_prefix", "permissions", "inherits"),
        *("is_active", "last_used_at", "expires_at", "created_at", "revoked_at"),
    }
    assert listed["user_email"] == "user@example.com"
    assert (await owner.get(f"{URL}/{made['id']}")).json()["is_active"] is True

    assert (await owner.delete(f"{URL}/{made['id']}")).status_code == 204
    assert (await client.get("/auth/me", headers=headers)).status_code == 401
    ended = (await owner.get(f"{URL}/{made['id']}")).json()
    assert ended["is_active"] is False
    assert ended["revoked_at"]
    assert (await owner.delete(f"{URL}/{made['id']}")).status_code == 204
    assert (await owner.get(f"{URL}/{made['id']}")).json() == ended


async def test_newest_first_and_paged(as_):
    owner = await as_("user")
    for name in ("one", "two", "three"):
        await create(owner, name=name)
    assert [key["name"] for key in (await owner.get(URL)).json()] == ["three", "two", "one"]
    page = await owner.get(URL, params={"skip": 1, "limit": 1})
    assert [key["name"] for key in page.json()] == ["two"]
    assert (await owner.get(URL, params={"limit": 0})).status_code == 422


@pytest.mark.parametrize("body", [{}, {"permissions": None}])
async def test_without_permissions_a_key_inherits(as_, client, body):
    made = (await create(await as_("user"), **body)).json()
    assert made["inherits"] is True
    assert made["permissions"] == {}
    answer = await client.get(URL, headers={"X-API-Key": made["key"]})
    assert answer.status_code == 200


async def test_an_empty_map_grants_nothing(as_, client):
    made = (await create(await as_("user"), permissions={})).json()
    assert made["inherits"] is False
    headers = {"X-API-Key": made["key"]}
    for path in (URL, "/api/v1/users", "/api/v1/roles"):
        assert (await client.get(path, headers=headers)).status_code == 403
    assert (await client.get("/auth/me", headers=headers)).status_code == 200


async def test_nobody_grants_what_they_do_not_hold(as_):
    for asked in ("sinas.*:all", "sinas.users.read:all", "titan.x.read:own"):
        answer = await create(await as_("user"), permissions={asked: True})
        assert answer.status_code == 403
        assert f"'{asked}'" in answer.json()["detail"]
    assert (await create(await as_("user"), permissions={"sinas.*:all": False})).status_code == 201
    assert (await create(await as_("admin"), permissions={"sinas.*:all": True})).status_code == 201


async def test_a_limited_key_mints_no_wider_one(as_, client):
    limit = {"sinas.api_keys.create:own": True, "sinas.users.read:own": True}
    limited = await as_.key("user", limit)
    refused = await create(limited, permissions={"sinas.api_keys.read:own": True})
    assert refused.status_code == 403
    made = (await create(limited)).json()
    assert made["permissions"] == limit
    assert made["inherits"] is False
    headers = {"X-API-Key": made["key"]}
    assert (await client.get(URL, headers=headers)).status_code == 403
    assert (await client.get("/api/v1/roles", headers=headers)).status_code == 403


async def test_a_function_cannot_mint_keys_with_its_callers_token(as_, client, context):
    user = await as_.user("user")
    claims = AccessClaims(user_id=user.id, email=user.email, execution_id=uuid4())
    token = context.signer.mint(claims, timedelta(minutes=1))
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.post(URL, json={"name": "forever"}, headers=headers)
    assert answer.status_code == 403
    assert (await client.get("/auth/me", headers=headers)).status_code == 200


async def test_an_end_without_a_zone_is_in_utc(as_):
    answer = await create(await as_("user"), expires_at="2099-01-01T00:00:00")
    assert answer.json()["expires_at"] == "2099-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 256},
        {"permissions": {"sinas.users.read": True}},
        {"permissions": {"rubbish": False}},
        {"permissions": {"sinas.users.read:own": "perhaps"}},
        {"permissions": ["sinas.users.read:own"]},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"unknown": 1},
    ],
)
async def test_malformed_keys_change_nothing(as_, body):
    owner = await as_("user")
    answer = await create(owner, **body)
    assert answer.status_code == 422, answer.text
    assert next(iter(body)) in {error["field"].split(".")[0] for error in answer.json()["errors"]}
    assert (await owner.get(URL)).json() == []


async def test_the_grammar_error_names_the_fix(as_):
    answer = await create(await as_("user"), permissions={"sinas.users.read": True})
    assert "<action>:<scope>" in answer.json()["detail"]


async def test_expiry_is_kept(as_):
    moment = (utcnow() + timedelta(days=1)).isoformat()
    assert (await create(await as_("user"), expires_at=moment)).json()["expires_at"]


async def test_others_keys_do_not_exist_for_a_user(as_):
    owner, other, admin = await as_("user"), await as_("other"), await as_("admin")
    url = f"{URL}/{(await create(owner)).json()['id']}"
    assert (await other.get(url)).status_code == 404
    assert (await other.delete(url)).status_code == 404
    assert (await other.get(URL)).json() == []
    assert (await owner.get(f"{URL}/{uuid4()}")).status_code == 404
    assert len((await admin.get(URL)).json()) == 1
    assert (await admin.delete(url)).status_code == 204


async def test_who_may_read_all_keys_may_not_therefore_end_them(as_, context):
    from tests.factories.identity import make_user

    auditor = await as_(await make_user(context, permissions=["sinas.api_keys.read:all"]))
    url = f"{URL}/{(await create(await as_('user'))).json()['id']}"
    assert (await auditor.get(url)).status_code == 200
    assert (await auditor.delete(url)).status_code == 403


async def test_guests_make_no_keys(as_):
    assert (await create(await as_("guest"))).status_code == 403


async def test_a_list_costs_two_queries_whatever_its_length(as_, query_counter):
    owner = await as_("user")
    for _ in range(5):
        await create(owner)
    with query_counter() as queries:
        assert len((await owner.get(URL)).json()) == 5
    assert queries.count == 2, queries.statements
    assert all(each.startswith("SELECT") for each in queries.statements)
