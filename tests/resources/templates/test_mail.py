"""Mail made of templates, through a real mail server, and what its refusals tell."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from typing_extensions import override

from tests.factories.templates import make_template
from tests.kit.test_mail_message import TRICKS, assert_sound
from tests.support.certificates import certificate
from tests.support.mail_server import PASSWORD, USER, MailServer, mail_server

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from sinas.context import AppContext
    from sinas.models import User
    from tests.fixtures.client import SignIn
    from tests.resources.templates.conftest import Mailing

TO = {"to": "ada@example.com"}


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("user")


async def send(client: httpx.AsyncClient, row: Any, **body: Any) -> httpx.Response:
    path = f"/templates/{row.namespace}/{row.name}/email"
    return await client.post(path, json={"variables": {}, **TO, **body})


async def test_a_mail_by_id_and_by_name(
    context: AppContext, sender: httpx.AsyncClient, owner: User, smtp: MailServer
) -> None:
    row = await make_template(
        context,
        owner,
        "<p>Hi <b>{{ name }}</b></p>",
        title="For {{ name }}",
        text_content="Yo {{ name }}",
    )
    for path in (f"/templates/{row.namespace}/{row.name}/email", f"/templates/{row.id}/send"):
        body = {**TO, "variables": {"name": "<Äda>"}}
        answer = await sender.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"message": "Email sent successfully", "to": "ada@example.com"}
        mail = await smtp.next_message()
        assert (mail["From"], mail["To"]) == ("noreply@sinas.example", "ada@example.com")
        assert mail["Subject"] == "For <Äda>"
        text, page = mail.iter_parts()
        assert (text.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
        assert text.get_content() == "Yo <Äda>"
        assert page.get_content() == "<p>Hi <b>&lt;Äda&gt;</b></p>"


async def test_what_a_template_does_not_say(
    context: AppContext, sender: httpx.AsyncClient, owner: User, smtp: MailServer
) -> None:
    """A subject, and a text made from the HTML."""
    row = await make_template(context, owner, "<h1>Hi</h1><p>A &amp; B</p>", title="{{ '' }}")
    assert (await send(sender, row)).status_code == 200
    mail = await smtp.next_message()
    assert mail["Subject"] == "Notification"
    assert next(mail.iter_parts()).get_content().split() == ["Hi", "A", "&", "B"]


async def test_the_sender_is_who_was_asked_for(
    context: AppContext, sender: httpx.AsyncClient, owner: User, smtp: MailServer
) -> None:
    row = await make_template(context, owner)
    named = {"from_alias": "support", "from_name": "Sinas Support"}
    assert (await send(sender, row, **named)).status_code == 200
    taken = await smtp.next()
    assert taken["sender"] == "support@sinas.example"
    assert taken["recipients"] == ["ada@example.com"]
    assert (await send(sender, row, **named)).status_code == 200
    assert (await smtp.next_message())["From"] == "Sinas Support <support@sinas.example>"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (
            "to",
            [
                *(
                    "",
                    "ada",
                    "ada@",
                    "@example.com",
                    "a b@example.com",
                    "ada@example.com,eve@x.com",
                ),
                *("ada@example.com\r\nRCPT TO:<eve@x.com>", "ada@example.com\nBcc: eve@x.com"),
                *(
                    "Ada <ada@example.com>",
                    "<ada@example.com>",
                    '"a b"@example.com',
                    "ada@exa\u2028mple.com",
                ),
                *(
                    "ada@[127.0.0.1]",
                    "a" * 65 + "@example.com",
                    "ada@" + "e" * 300 + ".com",
                    "ädä@example.com",
                ),
                *("ada@example.com\x00", "ada@ö-.example", None, 7, ["ada@example.com"]),
            ],
        ),
        (
            "from_alias",
            [
                *(
                    "",
                    "a b",
                    "a@b",
                    "x\r\nBcc: eve@x.com",
                    "x\n",
                    "x>",
                    "<x",
                    "é",
                    ".x",
                    "x.",
                    "x" * 65,
                ),
                *("login", "LOGIN", 7, "x\u2028", "x,y"),
            ],
        ),
        ("from_name", ["x" * 201, 7, ["x"]]),
        ("variables", [None, [], "x", {"a": 10**30}]),
        ("bcc", ["eve@x.com"]),
    ],
)
async def test_what_is_refused_before_a_server_sees_it(
    context: AppContext,
    sender: httpx.AsyncClient,
    owner: User,
    smtp: MailServer,
    field: str,
    values: list[Any],
) -> None:
    row = await make_template(context, owner)
    for value in values:
        answer = await send(sender, row, **{field: value})
        assert answer.status_code == 422, (value, answer.text)
        assert {error["field"] for error in answer.json()["errors"]} == {field}
    assert smtp.mails == []


async def test_nothing_gets_into_the_headers(
    context: AppContext, sender: httpx.AsyncClient, owner: User, smtp: MailServer
) -> None:
    row = await make_template(
        context, owner, "<p>{{ x }}</p>", title="{{ x }}", text_content="{{ x }}"
    )
    tricks = [trick for trick in TRICKS if "\ud800" not in trick and "\x00" not in trick]
    for trick in tricks:
        body = {"from_name": trick[:200], "variables": {"x": trick[:500]}}
        answer = await send(sender, row, **body)
        assert answer.status_code == 200, (trick, answer.text)
        taken = await smtp.next()
        assert taken["recipients"] == ["ada@example.com"]
        assert taken["sender"] == "noreply@sinas.example"
        parsed = assert_sound(base64.b64decode(taken["raw"]))
        assert [each.addr_spec for each in parsed["To"].addresses] == ["ada@example.com"]


async def test_a_subject_that_is_too_long(
    context: AppContext, sender: httpx.AsyncClient, owner: User
) -> None:
    row = await make_template(context, owner, title="{{ 'x' * 501 }}")
    answer = await send(sender, row)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["title"]


async def test_a_template_that_fails_sends_nothing(
    context: AppContext, sender: httpx.AsyncClient, owner: User, smtp: MailServer
) -> None:
    row = await make_template(context, owner, "{{ missing }}")
    answer = await send(sender, row)
    assert answer.status_code == 400
    assert "'missing' is undefined" in answer.json()["detail"]
    assert smtp.mails == []


@pytest.mark.parametrize(
    ("to", "html", "status", "words"),
    [
        ("refused@example.com", "x", 422, ["to", "550"]),
        ("later@example.com", "x", 503, ["451", "later"]),
        ("gone@example.com", "x", 503, ["hung up"]),
        ("ada@example.com", "spam", 502, ["554"]),
    ],
)
async def test_refusals_tell_their_code_and_not_the_servers_words(
    context: AppContext,
    sender: httpx.AsyncClient,
    owner: User,
    smtp: MailServer,
    to: str,
    html: str,
    status: int,
    words: list[str],
) -> None:
    row = await make_template(context, owner, html)
    answer = await send(sender, row, to=to)
    assert answer.status_code == status, answer.text
    assert all(word in answer.json()["detail"] for word in words), answer.text
    assert "mx7" not in answer.text
    assert "no such user" not in answer.text
    assert smtp.mails == []


async def test_a_server_that_takes_too_long(
    context: AppContext, mailing: Mailing, owner: User, smtp: MailServer, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sinas.resources.templates.use.SEND_SECONDS", 0.3)
    client = await (await mailing(mail=smtp.settings()))("user")
    row = await make_template(context, owner)
    answer = await send(client, row, to="slow@example.com")
    assert answer.status_code == 504
    assert "may have been sent" in answer.json()["detail"]


async def test_no_connection_of_the_database_is_held_meanwhile(
    context: AppContext, mailing: Mailing, owner: User, smtp: MailServer, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sinas.resources.templates.use.SEND_SECONDS", 1)
    client = await (await mailing(mail=smtp.settings()))("user")
    row = await make_template(context, owner)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(send(client, row, to="slow@example.com"))
        await asyncio.sleep(0.4)
        assert context.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert slow.result().status_code == 504


async def test_without_a_mail_server(
    context: AppContext, as_: SignIn, mailing: Mailing, owner: User, free_tcp_port: int
) -> None:
    row = await make_template(context, owner)
    answer = await send(await as_("user"), row)
    assert answer.status_code == 503
    assert "SMTP_HOST" in answer.json()["detail"]
    dead = {"host": "127.0.0.1", "port": free_tcp_port, "domain": "sinas.example"}
    answer = await send(await (await mailing(mail=dead))("user"), row)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_mails_are_counted_by_user(
    context: AppContext, mailing: Mailing, owner: User, smtp: MailServer
) -> None:
    as_ = await mailing(mail=smtp.settings(), auth={"rate_limit_email_max": 2})
    row = await make_template(context, owner, "{{ x }}")
    user, admin = await as_("user"), await as_("admin")
    good: dict[str, Any] = {"variables": {"x": 1}}
    bad: dict[str, Any] = {"variables": {}}
    answers = [await send(user, row, **body) for body in (good, bad, good, good)]
    assert [answer.status_code for answer in answers] == [200, 400, 200, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert (await send(admin, row, **good)).status_code == 200
    assert len(smtp.mails) == 3


async def test_who_may_send(
    context: AppContext, mailing: Mailing, owner: User, smtp: MailServer
) -> None:
    as_ = await mailing(mail=smtp.settings())
    row = await make_template(context, owner)
    off = await make_template(context, owner, is_active=False)
    by_id = f"/templates/{row.id}/send"
    body = {**TO, "variables": {}}
    assert (await send(await as_("other"), row)).status_code == 404
    assert (await (await as_("other")).post(by_id, json=body)).status_code == 404
    assert (await send(await as_("guest"), row)).status_code == 403
    reader = await as_.key(
        "user", ["sinas.templates/*/*.read:own", "sinas.templates/*/*.render:own"]
    )
    assert (await send(reader, row)).status_code == 403
    assert (await send(await as_("user"), off)).status_code == 404
    assert smtp.mails == []
    key = await as_.key("user", [f"sinas.templates/{row.namespace}/{row.name}.send:own"])
    assert (await send(key, row)).status_code == 200


async def test_over_tls_with_a_password(
    context: AppContext, mailing: Mailing, owner: User, tmp_path: Path, monkeypatch: Any
) -> None:
    path, _ = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    both = tmp_path / "both.pem"
    both.write_bytes(path.read_bytes() + (tmp_path / "key.pem").read_bytes())
    row = await make_template(context, owner)
    async with mail_server(certificate=both) as server:
        credentials = {"user": USER, "password": SecretStr(PASSWORD)}
        client = await (await mailing(mail=server.settings(**credentials)))("user")
        assert (await send(client, row)).status_code == 200
        taken = await server.next()
        assert (taken["is_encrypted"], taken["user"]) == (True, USER)
        wrong = server.settings(user=USER, password=SecretStr("wrong-canary"))
        answer = await send(await (await mailing(mail=wrong))("user"), row)
        assert answer.status_code == 503
        plain = server.settings(**credentials, starttls="never")
        assert (await send(await (await mailing(mail=plain))("user"), row)).status_code == 503
        assert server.mails == []


async def test_no_secret_is_told_or_logged(
    context: AppContext, mailing: Mailing, owner: User, tmp_path: Path, monkeypatch: Any
) -> None:
    path, _ = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    both = tmp_path / "both.pem"
    both.write_bytes(path.read_bytes() + (tmp_path / "key.pem").read_bytes())
    row = await make_template(context, owner)
    seen: list[str] = []

    class Listener(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(f"{record.msg} {record.exc_info}")

    listener = Listener()
    logging.getLogger("sinas").addHandler(listener)
    try:
        async with mail_server(certificate=both) as server:
            wrong = server.settings(user=USER, password=SecretStr("wrong-canary"))
            answer = await send(await (await mailing(mail=wrong))("user"), row)
    finally:
        logging.getLogger("sinas").removeHandler(listener)
    encoded = base64.b64encode(b"wrong-canary").decode()
    plain = base64.b64encode(f"\0{USER}\0wrong-canary".encode()).decode()
    assert any("templates.mail_failed" in line for line in seen)
    for text in (answer.text, *seen):
        assert not any(secret in text for secret in ("wrong-canary", encoded, plain))
