"""Refresh, logout, and the ends of sign-ins."""

import asyncio
from datetime import timedelta

from sqlalchemy import select, update

from sinas.kit.crypto import sha256_hex
from sinas.kit.time import utcnow
from sinas.models import RefreshToken, User
from tests.factories.identity import make_user

ADMIN = "admin@example.com"


async def refresh(client, token):
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def logout(client, token):
    return await client.post("/auth/logout", json={"refresh_token": token})


async def test_refresh_rotates(client, codes, context):
    first = await codes.tokens(client, ADMIN)
    answer = await refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert second.keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert second["refresh_token"] != first["refresh_token"]
    bearer = {"Authorization": f"Bearer {second['access_token']}"}
    assert (await client.get("/auth/me", headers=bearer)).json()["email"] == ADMIN
    assert (await refresh(client, second["refresh_token"])).status_code == 200
    async with context.unit() as unit:
        hashes = set(await unit.session.scalars(select(RefreshToken.token_hash)))
    assert sha256_hex(second["refresh_token"]) in hashes
    assert second["refresh_token"] not in hashes


async def test_a_replaced_token_answers_during_the_grace(client, codes):
    first = (await codes.tokens(client, ADMIN))["refresh_token"]
    second = (await refresh(client, first)).json()["refresh_token"]
    retried = await refresh(client, first)
    assert retried.status_code == 200
    assert (await refresh(client, second)).status_code == 200
    assert (await refresh(client, retried.json()["refresh_token"])).status_code == 200


async def test_reuse_after_the_grace_ends_the_family(client_with, codes):
    client = await client_with(auth={"refresh_reuse_grace_seconds": 0})
    first = (await codes.tokens(client, ADMIN))["refresh_token"]
    other_sign_in = (await codes.tokens(client, ADMIN))["refresh_token"]
    second = (await refresh(client, first)).json()["refresh_token"]
    reused = await refresh(client, first)
    assert reused.status_code == 401
    assert "replaced by a newer one" in reused.json()["detail"]
    assert "Sign in again" in reused.json()["detail"]
    assert (await refresh(client, second)).status_code == 401
    assert (await refresh(client, other_sign_in)).status_code == 200


async def test_simultaneous_refreshes_all_get_an_answer(client, codes):
    token = (await codes.tokens(client, ADMIN))["refresh_token"]
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(refresh(client, token)) for _ in range(6)]
    assert {each.result().status_code for each in tries} == {200}


async def test_an_expired_or_unknown_token_is_refused(client, codes, context):
    token = (await codes.tokens(client, ADMIN))["refresh_token"]
    async with context.unit() as unit:
        await unit.session.execute(update(RefreshToken).values(expires_at=utcnow()))
    for each in (token, "unknown", ""):
        refused = await refresh(client, each)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert (await client.post("/auth/refresh", json={})).status_code == 422


async def test_a_deactivated_user_cannot_refresh(client, codes, context):
    user = await make_user(context)
    token = (await codes.tokens(client, user.email))["refresh_token"]
    async with context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == user.id).values(is_active=False))
    assert (await refresh(client, token)).status_code == 401


async def test_logout_ends_every_token_of_the_sign_in(client, codes):
    first = (await codes.tokens(client, ADMIN))["refresh_token"]
    other_sign_in = (await codes.tokens(client, ADMIN))["refresh_token"]
    second = (await refresh(client, first)).json()["refresh_token"]
    answer = await logout(client, first)
    assert answer.status_code == 204
    assert answer.content == b""
    assert (await refresh(client, second)).status_code == 401
    assert (await refresh(client, first)).status_code == 401
    assert (await logout(client, second)).status_code == 204
    assert (await logout(client, first)).status_code == 204
    assert (await refresh(client, other_sign_in)).status_code == 200


async def test_logout_of_an_unknown_token(client):
    assert (await logout(client, "unknown")).status_code == 404


async def test_a_refresh_that_races_with_a_logout_leaves_no_token(client, codes, context):
    for _ in range(5):
        token = (await codes.tokens(client, (await make_user(context)).email))["refresh_token"]
        async with asyncio.TaskGroup() as group:
            rotated = [group.create_task(refresh(client, token)) for _ in range(3)]
            group.create_task(logout(client, token))
        for each in rotated:
            if each.result().status_code == 200:
                fresh = each.result().json()["refresh_token"]
                assert (await refresh(client, fresh)).status_code == 401


async def test_forgotten_a_day_after_expiry(client, codes, context):
    from sinas.resources.auth.jobs import FORGET_EXPIRED

    old = (await codes.tokens(client, ADMIN))["refresh_token"]
    young = (await codes.tokens(client, ADMIN))["refresh_token"]
    async with context.unit() as unit:
        await unit.session.execute(
            update(RefreshToken)
            .where(RefreshToken.token_hash == sha256_hex(old))
            .values(expires_at=utcnow() - timedelta(days=2))
        )
    await FORGET_EXPIRED.run(context)
    assert (await logout(client, old)).status_code == 404
    assert (await logout(client, young)).status_code == 204
