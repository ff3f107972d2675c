"""Signing in by one-time code."""

import asyncio
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import select, update

from sinas.kit.time import utcnow
from sinas.models import OtpSession, User
from tests.factories.identity import make_user
from tests.resources.auth.conftest import verify, wrong

ADMIN = "admin@example.com"


async def test_login_verify_and_use(client, codes):
    session_id, code = await codes.log_in(client, "admin@example.com")
    answer = await verify(client, session_id, f" {code} ")
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 900
    assert body["user"]["email"] == ADMIN
    assert body["user"]["roles"] == ["Admins"]
    assert body["user"]["last_login_at"]
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert me.json() == body["user"]


async def test_the_address_is_normalised(client, codes):
    answer = await client.post("/auth/login", json={"email": "  ADMIN@Example.COM "})
    assert answer.status_code == 200
    session_id, code = answer.json()["session_id"], await codes.next(ADMIN)
    assert (await verify(client, session_id, code)).status_code == 200


async def test_unknown_and_deactivated_addresses_look_like_known_ones(client, codes, context):
    gone = await make_user(context, email="gone@example.com", is_active=False)
    answers = [
        await client.post("/auth/login", json={"email": email})
        for email in (ADMIN, "nobody@example.com", gone.email)
    ]
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["message"] for a in answers}) == 1
    assert len({a.json()["session_id"] for a in answers}) == 3
    assert {frozenset(a.headers) for a in answers} == {frozenset(answers[0].headers)}
    await codes.next(ADMIN)
    assert not codes.seen("nobody@example.com")
    assert not codes.seen(gone.email)
    refused = await verify(client, answers[1].json()["session_id"], "000000")
    wrong_session = await verify(client, str(uuid4()), "000000")
    assert refused.status_code == wrong_session.status_code == 400
    assert refused.json()["detail"] == wrong_session.json()["detail"]


async def test_neither_code_nor_token_is_stored_in_clear(client, codes, context):
    session_id, code = await codes.log_in(client, ADMIN)
    async with context.unit() as unit:
        stored = await unit.session.get(OtpSession, session_id)
        assert code not in stored.code_hash


async def test_a_code_works_once(client, codes):
    session_id, code = await codes.log_in(client, ADMIN)
    assert (await verify(client, session_id, code)).status_code == 200
    again = await verify(client, session_id, code)
    assert again.status_code == 400
    assert "used" in again.json()["detail"]


async def test_the_second_try_is_the_last(client, codes):
    session_id, code = await codes.log_in(client, ADMIN)
    assert (await verify(client, session_id, wrong(code))).status_code == 400
    assert (await verify(client, session_id, code)).status_code == 200

    session_id, code = await codes.log_in(client, ADMIN)
    assert (await verify(client, session_id, wrong(code))).status_code == 400
    assert (await verify(client, session_id, wrong(code))).status_code == 400
    assert (await verify(client, session_id, code)).status_code == 400


async def test_an_expired_code_is_refused_like_a_wrong_one(client, codes, context):
    session_id, code = await codes.log_in(client, ADMIN)
    async with context.unit() as unit:
        await unit.session.execute(update(OtpSession).values(expires_at=utcnow()))
    expired = await verify(client, session_id, code)
    assert expired.status_code == 400
    assert expired.json()["detail"] == (await verify(client, str(uuid4()), "1")).json()["detail"]


async def test_a_new_login_ends_older_ones_of_the_address(client, codes):
    old_session, old_code = await codes.log_in(client, ADMIN)
    await codes.log_in(client, ADMIN)
    assert (await verify(client, old_session, old_code)).status_code == 400


async def test_a_user_deactivated_meanwhile_gets_nothing(client, codes, context):
    user = await make_user(context)
    session_id, code = await codes.log_in(client, user.email)
    async with context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == user.id).values(is_active=False))
    assert (await verify(client, session_id, code)).status_code == 400


async def test_simultaneous_tries_of_one_code_give_one_token_pair(client, codes):
    session_id, code = await codes.log_in(client, ADMIN)
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(verify(client, session_id, code)) for _ in range(8)]
    statuses = sorted(each.result().status_code for each in tries)
    assert statuses == [200] + [400] * 7


async def test_simultaneous_wrong_tries_are_all_counted(client, codes):
    session_id, code = await codes.log_in(client, ADMIN)
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(verify(client, session_id, wrong(code)))
    assert (await verify(client, session_id, code)).status_code == 400


async def test_malformed_requests(client):
    for body in ({}, {"email": "ann"}, {"email": None}, {"email": "a@b.com", "more": 1}):
        answer = await client.post("/auth/login", json=body)
        assert answer.status_code == 422, body
    assert (
        "name@example.com"
        in (await client.post("/auth/login", json={"email": "ann"})).json()["detail"]
    )
    assert (await verify(client, "no-uuid", "123456")).status_code == 422
    assert (await verify(client, str(uuid4()), "\x00")).status_code == 400


async def test_expired_sessions_are_forgotten(client, codes, context):
    from sinas.resources.auth.jobs import FORGET_EXPIRED

    await codes.log_in(client, ADMIN)
    kept, _ = await codes.log_in(client, (await make_user(context)).email)
    async with context.unit() as unit:
        await unit.session.execute(
            update(OtpSession)
            .where(OtpSession.email == ADMIN)
            .values(expires_at=utcnow() - timedelta(days=2))
        )
    await FORGET_EXPIRED.run(context)
    async with context.unit() as unit:
        assert [str(i) for i in await unit.session.scalars(select(OtpSession.id))] == [kept]
