"""Files of collections that go with a mail: whose, how they arrive, and what stops the mail."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from sinas.models import FileVersion, FileVisibility
from tests.factories.files import make_collection, make_file
from tests.factories.templates import make_template
from tests.kit.test_mail_message import assert_sound

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.models import Collection, Template
    from tests.fixtures.client import SignIn
    from tests.resources.templates.conftest import Mailing
    from tests.support.mail_server import MailServer

COLLECTION = "docs/reports"
PDF = b"%PDF-1.7\r\n.\r\n\x00\xff" * 50


@pytest.fixture
async def template(context: AppContext, as_: SignIn) -> Template:
    return await make_template(context, await as_.user("user"), "<p>{{ x }}</p>")


@pytest.fixture
async def collection(context: AppContext, as_: SignIn) -> Collection:
    admin = await as_.user("admin")
    return await make_collection(context, admin, namespace="docs", name="reports")


async def send(
    client: httpx.AsyncClient, template: Template, *files: Any, x: str = "Hello"
) -> httpx.Response:
    """Each file a name in `docs/reports`, or what the request says of it."""
    attachments = [
        {"collection": COLLECTION, "filename": file} if isinstance(file, str) else file
        for file in files
    ]
    body = {"to": "ada@example.com", "variables": {"x": x}, "attachments": attachments}
    return await client.post(f"/templates/{template.id}/send", json=body)


async def test_files_arrive_as_they_are(
    context: AppContext,
    as_: SignIn,
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    collection: Collection,
) -> None:
    user = await as_.user("user")
    pdf = "application/pdf"
    await make_file(context, collection, user, "Größe 1.pdf", PDF, content_type=pdf)
    await make_file(context, collection, user, "a.csv", "ä;b\n".encode(), content_type="text/csv")
    answer = await send(
        sender,
        template,
        "Gro\u0308ße 1.pdf",  # as macOS spells it
        "a.csv",
        {"collection": COLLECTION, "filename": "a.csv", "name": "Umsätze März.csv"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"message": "Email sent successfully", "to": "ada@example.com"}
    readable, *files = (await smtp.next_message()).iter_parts()
    assert readable.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in readable.iter_parts()] == [
        "text/plain",
        "text/html",
    ]
    assert [(file.get_filename(), file.get_content_type()) for file in files] == [
        ("Größe 1.pdf", "application/pdf"),
        ("a.csv", "text/csv"),
        ("Umsätze März.csv", "text/csv"),
    ]
    assert all(file.get_content_disposition() == "attachment" for file in files)
    assert files[0].get_content() == PDF
    assert files[1].get_content() == "ä;b\n"


async def test_a_version_of_a_file(
    as_: SignIn,
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    collection: Collection,
) -> None:
    for content in (b"first", b"second"):
        body = {
            "name": "a.txt",
            "content_type": "text/plain",
            "content_base64": base64.b64encode(content).decode(),
            "update_existing": True,
        }
        assert (await sender.post(f"/files/{COLLECTION}", json=body)).status_code == 201
    older = {"collection": COLLECTION, "filename": "a.txt", "version": 1}
    assert (await send(sender, template, older, "a.txt")).status_code == 200
    _, *files = (await smtp.next_message()).iter_parts()
    assert [file.get_content() for file in files] == ["first", "second"]
    answer = await send(sender, template, "a.txt", older | {"version": 3})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "attachments.1: File 'a.txt' has no version 3"
    assert smtp.mails == []


async def test_only_what_the_sender_may_download(
    context: AppContext,
    as_: SignIn,
    mailing: Mailing,
    smtp: MailServer,
    collection: Collection,
) -> None:
    mailing_as = await mailing(mail=smtp.settings())
    user = await as_.user("user")
    await make_file(context, collection, user, "private.txt")
    await make_file(context, collection, user, "shared.txt", visibility=FileVisibility.SHARED)
    download = f"sinas.collections/{COLLECTION}.download"
    for role, right, name, status in (
        ("other", f"{download}:own", "shared.txt", 200),
        ("admin", f"{download}:all", "private.txt", 200),
        ("other", f"{download}:own", "private.txt", 404),
        ("user", "sinas.collections/other/*.download:own", "private.txt", 403),
    ):
        template = await make_template(context, await as_.user(role), "<p>{{ x }}</p>")
        client = await mailing_as.key(role, ["sinas.templates/*/*.send:own", right])
        got = (await client.get(f"/files/{COLLECTION}/{name}")).status_code
        answer = await send(client, template, "shared.txt", name)
        assert (got, answer.status_code) == (status, status), answer.text
        if status == 200:
            _, _, file = (await smtp.next_message()).iter_parts()
            assert file.get_content() == "hello"
        else:
            place = 1 if status == 404 else 0
            assert answer.json()["detail"].startswith(f"attachments.{place}: ")
    assert smtp.mails == []


async def test_what_is_missing_is_named(
    context: AppContext,
    as_: SignIn,
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    collection: Collection,
) -> None:
    user = await as_.user("user")
    await make_file(context, collection, user, "a.txt")
    gone = await make_file(context, collection, user, "gone.txt")
    for blob_id in await _blobs(context, gone.id):
        await context.storage.delete(blob_id)
    for bad in (
        "b.txt",
        "gone.txt",
        {"collection": "docs/none", "filename": "a.txt"},
    ):
        answer = await send(sender, template, "a.txt", "a.txt", bad)
        assert answer.status_code == 404, answer.text
        assert answer.json()["detail"].startswith("attachments.2: ")
    assert smtp.mails == []


async def _blobs(context: AppContext, file_id: Any) -> list[str]:
    async with context.unit() as unit:
        found = await unit.session.scalars(
            select(FileVersion.blob_id).where(FileVersion.file_id == file_id)
        )
        return [blob_id.hex for blob_id in found]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"collection": "reports"}, "attachments.0.collection"),
        ({"collection": "docs/reports/a.txt"}, "attachments.0.collection"),
        ({"collection": "docs/*"}, "attachments.0.collection"),
        ({"filename": ""}, "attachments.0.filename"),
        ({"filename": None}, "attachments.0.filename"),
        ({"filename": "a\x00b"}, "attachments.0.filename"),
        ({"filename": "../reports/a.txt"}, "attachments.0.filename"),
        ({"version": 0}, "attachments.0.version"),
        ({"name": "a/b.txt"}, "attachments.0.name"),
        ({"name": "a\r\nBcc: eve@example.com"}, "attachments.0.name"),
        ({"name": "\u202egnp.exe"}, "attachments.0.name"),
        ({"name": " "}, "attachments.0.name"),
        ({"content": "x"}, "attachments.0.content"),
    ],
    ids=range(13),
)
async def test_what_is_no_attachment(
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    change: dict[str, Any],
    field: str,
) -> None:
    file = {"collection": COLLECTION, "filename": "a.txt"} | change
    answer = await send(sender, template, file)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert smtp.mails == []


async def test_names_stay_in_their_header(
    context: AppContext,
    as_: SignIn,
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    collection: Collection,
) -> None:
    user = await as_.user("user")
    for name in (
        'x"; filename="y.exe',
        "=?utf-8?q?x=0D=0ABcc:_eve@example.com?=",
        "; name*0=x; Bcc: eve@example.com",
        "日本語" * 80,
    ):
        file = await make_file(context, collection, user, name)
        assert (await send(sender, template, file.name)).status_code == 200
        taken = await smtp.next()
        assert taken["recipients"] == ["ada@example.com"]
        parsed = assert_sound(base64.b64decode(taken["raw"]))
        attached = parsed.get_payload()[1]
        assert attached.get_filename() == " ".join(name.split())
        assert attached.get_content() == "hello"


async def test_limits(
    context: AppContext,
    as_: SignIn,
    mailing: Mailing,
    smtp: MailServer,
    template: Template,
    collection: Collection,
) -> None:
    mailing_as = await mailing(
        mail=smtp.settings(max_attachments_mb=1), auth={"rate_limit_email_max": 2}
    )
    client = await mailing_as("user")
    user = await as_.user("user")
    half = b"x" * (512 * 1024)
    await make_file(context, collection, user, "half.bin", half, content_type="image/png")
    await make_file(context, collection, user, "small.txt", b"x")
    answer = await send(client, template, "half.bin", "half.bin", "small.txt")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "attachments"
    assert "the limit is 1 MiB" in error["message"]
    answer = await send(client, template, *["small.txt"] * 11)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["attachments"]
    assert smtp.mails == []
    # What was refused counts as no mail.
    assert (await send(client, template, "half.bin", "half.bin")).status_code == 200
    _, *files = (await smtp.next_message()).iter_parts()
    assert [file.get_content() for file in files] == [half, half]
    assert (await send(client, template, *["small.txt"] * 10)).status_code == 200
    assert (await send(client, template, "small.txt")).status_code == 429


async def test_a_server_that_wants_less(
    context: AppContext,
    as_: SignIn,
    sender: httpx.AsyncClient,
    template: Template,
    collection: Collection,
) -> None:
    await make_file(context, collection, await as_.user("user"), "a.txt")
    answer = await send(sender, template, "a.txt", x="too large")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["attachments"]
    assert "552" in answer.json()["detail"]
    assert "mx7" not in answer.text
    assert (await send(sender, template, x="too large")).status_code == 502


async def test_few_mails_with_attachments_at_once(
    context: AppContext,
    as_: SignIn,
    sender: httpx.AsyncClient,
    smtp: MailServer,
    template: Template,
    collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is in memory as a whole. Others go past those that wait."""
    module = "sinas.resources.templates.use"
    monkeypatch.setattr(f"{module}._with_files", asyncio.Semaphore(1))
    monkeypatch.setattr(f"{module}._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(f"{module}.SEND_SECONDS", 1)
    await make_file(context, collection, await as_.user("user"), "a.txt")
    body = {
        "to": "slow@example.com",
        "variables": {"x": "x"},
        "attachments": [{"collection": COLLECTION, "filename": "a.txt"}],
    }
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(sender.post(f"/templates/{template.id}/send", json=body))
        await asyncio.sleep(0.4)
        answer = await send(sender, template, "a.txt")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert (await send(sender, template)).status_code == 200
    assert slow.result().status_code == 504
    assert (await send(sender, template, "a.txt")).status_code == 200
    assert len(smtp.mails) == 2
