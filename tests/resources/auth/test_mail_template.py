"""The mail with a login code, as admins change it."""

import asyncio

import pytest

from sinas.resources.templates.seed import seed_login_code
from tests.factories.templates import make_template
from tests.resources.auth.conftest import verify
from tests.resources.auth.test_mail import ADMIN, login, mail_settings, smtp

__all__ = ["smtp"]


async def mailed(client, smtp):
    answer = await login(client)
    assert answer.status_code == 200
    async with asyncio.timeout(5):
        await smtp.arrived.wait()
    return answer.json()["session_id"], smtp.mails[-1]


async def changed(context, as_, **fields):
    async with context.unit() as unit:
        await seed_login_code(unit)
    admin = await as_("admin")
    row = (await admin.get("/api/v1/templates/by-name/default/otp_email")).json()
    answer = await admin.patch(f"/api/v1/templates/{row['id']}", json=fields)
    assert answer.status_code == 200, answer.text


async def test_a_mailed_code_has_the_admins_words(context, as_, client_with, smtp):
    await changed(
        context,
        as_,
        title="Welcome back",
        text_content="{{ user_email }}, within {{ expiry_minutes }} minutes: ={{ otp_code }}=",
    )
    client = await client_with(mail=mail_settings(smtp.port))
    session_id, mail = await mailed(client, smtp)
    assert "Subject: Welcome back" in mail
    assert "From: Sinas <login@sinas.example>" in mail
    assert f"{ADMIN}, within 10 minutes" in mail
    code = mail.split("=3D")[1]
    assert (await verify(client, session_id, code)).status_code == 200


@pytest.mark.parametrize(
    "fields", [{"text_content": "{{ nonsense }}"}, {"is_active": False}, {"title": "{{ 1 / 0 }}"}]
)
async def test_a_template_that_fails_keeps_nobody_out(context, as_, client_with, smtp, fields):
    await changed(context, as_, **fields)
    client = await client_with(mail=mail_settings(smtp.port))
    _, mail = await mailed(client, smtp)
    assert "Subject: Your Sinas login code" in mail
    assert "Your login code is" in mail


async def test_a_users_template_does_not_speak_for_the_platform(context, as_, client_with, smtp):
    admin = await as_("admin")
    found = await admin.get("/api/v1/templates/by-name/default/otp_email")
    if found.status_code == 200:
        await admin.delete(f"/api/v1/templates/{found.json()['id']}")
    user = await as_.user("user")
    await make_template(context, user, "Call me", name="otp_email", title="Your bank")
    client = await client_with(mail=mail_settings(smtp.port))
    _, mail = await mailed(client, smtp)
    assert "Your bank" not in mail
    assert "Your login code is" in mail
