"""Codes by mail, and what its absence may reveal."""

import asyncio
import re

import pytest

from tests.resources.auth.conftest import verify
from tests.resources.auth.smtp_server import smtp_server

ADMIN = "admin@example.com"


@pytest.fixture
async def smtp():
    async with smtp_server() as server:
        yield server


def mail_settings(port):
    return {
        "host": "127.0.0.1",
        "port": port,
        "user": "sinas",
        "domain": "sinas.example",
        "starttls": "auto",
    }


async def login(client, email=ADMIN):
    return await client.post("/auth/login", json={"email": email})


async def test_a_mailed_code_works(client_with, codes, smtp):
    client = await client_with(mail=mail_settings(smtp.port))
    answer = await login(client)
    assert answer.status_code == 200
    async with asyncio.timeout(5):
        await smtp.arrived.wait()
    (mail,) = smtp.mails
    assert "From: Sinas <login@sinas.example>" in mail
    assert f"To: {ADMIN}" in mail
    found = re.search(r"code is (\d{6})", mail)
    assert found is not None
    code = found.group(1)
    assert not codes.seen(ADMIN), "a mailed code is not logged"
    assert (await verify(client, answer.json()["session_id"], code)).status_code == 200


async def test_an_unknown_address_takes_the_same_way_but_gets_no_mail(client_with, smtp):
    client = await client_with(mail=mail_settings(smtp.port))
    assert (await login(client, "nobody@example.com")).status_code == 200
    async with asyncio.timeout(5):
        await smtp.hung_up.wait()
    assert smtp.commands == ["EHLO", "AUTH", "QUIT"]
    assert smtp.mails == []


@pytest.mark.parametrize("email", [ADMIN, "nobody@example.com"])
async def test_a_dead_mail_server_is_a_503_for_everybody(client_with, free_tcp_port, email):
    client = await client_with(mail=mail_settings(free_tcp_port))
    answer = await login(client, email)
    assert answer.status_code == 503
    assert "mail server" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("email", [ADMIN, "nobody@example.com"])
async def test_refused_credentials_are_a_503_for_everybody(client_with, smtp, email):
    smtp.refuse = "AUTH"
    client = await client_with(mail=mail_settings(smtp.port))
    assert (await login(client, email)).status_code == 503


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_refused_message_is_not_told_to_the_caller(client_with, smtp, command):
    smtp.refuse = command
    client = await client_with(mail=mail_settings(smtp.port))
    assert (await login(client)).status_code == 200
    async with asyncio.timeout(5):
        await smtp.hung_up.wait()
    assert smtp.mails == []


@pytest.mark.parametrize("email", [ADMIN, "nobody@example.com"])
async def test_production_without_mail_says_what_to_set(client_with, codes, email):
    client = await client_with(core={"env": "production"})
    answer = await login(client, email)
    assert answer.status_code == 503
    assert "SMTP_HOST" in answer.json()["detail"]
    assert not codes.seen(email)
