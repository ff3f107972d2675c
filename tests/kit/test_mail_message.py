"""Mails stay what they were meant to be, whatever stands in a subject, a name or an address."""

import dataclasses
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from typing import Any

import pytest

from sinas.errors import InvalidInputError
from sinas.kit.mail_message import (
    MAX_SUBJECT_CHARS,
    Attachment,
    Mail,
    message_bytes,
    wire_address,
)

PART_HEADERS = [
    "Content-Disposition",
    "Content-Transfer-Encoding",
    "Content-Type",
    "MIME-Version",
]
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"]
# Each would add a recipient, or end the headers, where it is taken at its word.
TRICKS = [
    "x\r\nBcc: eve@example.com",
    "x\nBcc: eve@example.com",
    "x\rBcc: eve@example.com",
    "x\r\n\r\n<script>body</script>",
    "x\n\nbody",
    "x\r\n Bcc: eve@example.com",
    "x\x0bBcc: eve@example.com",
    "x\x0cBcc: eve@example.com",
    "x\x1cBcc: eve@example.com",
    "x\x85Bcc: eve@example.com",
    "x\u2028Bcc: eve@example.com",
    "x\u2029Bcc: eve@example.com",
    "x\x00Bcc: eve@example.com",
    "é\r\nBcc: eve@example.com",
    "é" * 60 + "\nBcc: eve@example.com",
    "=?utf-8?q?x=0ABcc:_eve@example.com?=",
    "=?utf-8?q?x=0D=0ABcc:_eve@example.com?=",
    "=?utf-8?b?eApCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
    "=?utf-8?q?=22_=3Ceve=40example.com=3E?=",
    "=?us-ascii?q?x?= =?us-ascii?q?=0ABcc:_eve@example.com?=",
    "=?utf-8?q?x\n=0ABcc:_eve@example.com?=",
    '"quoted" <eve@example.com>',
    "name, eve@example.com",
    "eve@example.com, ",
    "(comment) group: a@example.com, b@example.com;",
    '\\" <eve@example.com>, "',
    "x" * 5000,
    "word " * 1000,
    "é" * 5000,
    "👩‍👧 and عربى and 日本語",
    "\u202egnp.exe",
    "Subject: x\nSubject: y",
    "",
    " ",
    "\ud800",
]


def mail(**fields: Any) -> Mail:
    known: dict[str, Any] = {
        "sender": "noreply@sinas.example",
        "sender_name": "",
        "to": "ada@example.com",
        "subject": "Hello",
        "text": "Text",
        "html": "<p>Text</p>",
    }
    return Mail(**(known | fields))


def assert_sound(raw: bytes) -> Any:
    """Our headers and no others, each line of them short and ASCII."""
    head, _, _ = raw.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        assert line
        assert len(line) <= 998
        assert all(32 <= byte < 127 for byte in line), line
    # By both parsers of the standard library.
    parsed: Any = None
    for rules in (policy.compat32, policy.default):
        parsed = message_from_bytes(raw, policy=rules)
        assert sorted(parsed.keys()) == sorted([*HEADERS, "Content-Type"])
        assert not parsed.defects
        assert len(parsed.get_payload()) == 2
    return parsed


@pytest.mark.parametrize("trick", TRICKS, ids=range(len(TRICKS)))
def test_subjects(trick: str) -> None:
    raw = message_bytes(mail(subject=trick))
    assert_sound(raw)
    seen = str(make_header(decode_header(message_from_bytes(raw)["Subject"].replace("\r\n", ""))))
    assert "\n" not in seen
    assert "\r" not in seen
    if "=?" in trick and trick.isprintable():
        assert seen.replace(" ", "") == trick.replace(" ", "")  # shown, not decoded


@pytest.mark.parametrize("trick", TRICKS, ids=range(len(TRICKS)))
def test_names(trick: str) -> None:
    parsed = assert_sound(message_bytes(mail(sender_name=trick)))
    (mailbox,) = parsed["From"].addresses
    assert mailbox.addr_spec == "noreply@sinas.example"
    assert [each.addr_spec for each in parsed["To"].addresses] == ["ada@example.com"]


@pytest.mark.parametrize("trick", TRICKS, ids=range(len(TRICKS)))
def test_bodies(trick: str) -> None:
    if "\ud800" in trick:
        return  # no template makes it
    parsed = assert_sound(message_bytes(mail(text=f"a {trick} z", html=f"<p>{trick}</p>")))
    text, page = parsed.iter_parts()
    assert (text.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().startswith("a ")
    assert text.get_content().rstrip().endswith(" z")


def attached(name: str, content_type: str = "text/csv", content: bytes = b"a;b\n") -> Mail:
    return mail(attachments=(Attachment(name=name, content_type=content_type, content=content),))


@pytest.mark.parametrize("trick", TRICKS, ids=range(len(TRICKS)))
def test_names_of_attachments(trick: str) -> None:
    raw = message_bytes(attached(trick))
    file = assert_sound(raw).get_payload()[1]
    as_before: Any = message_from_bytes(raw)
    for part in (file, as_before.get_payload()[1]):
        assert sorted(part.keys()) == PART_HEADERS
        assert part.get_content_disposition() == "attachment"
        assert part.get_payload(decode=True) == b"a;b\n"
    header = raw.rpartition(b"Content-Disposition: ")[2].partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 80 for line in header.split(b"\r\n"))
    if trick.isprintable() and trick.strip():
        # A space at an end is not shown.
        assert file.get_filename() == " ".join(trick.split())
    else:
        assert file.get_filename().replace("\u200d", "").isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "report.pdf",
        'a "b" \\ c.txt',
        "100%20.txt",
        "Grüße, Jürgen; x=1.txt",
        "日本語" * 80 + ".txt",
        "a" * 251 + ".txt",
        "two  spaces' end.",
    ],
    ids=range(7),
)
def test_a_file_is_called_what_it_is(name: str) -> None:
    for rules in (policy.compat32, policy.default):
        parsed: Any = message_from_bytes(message_bytes(attached(name)), policy=rules)
        found = parsed.get_payload()[1].get_filename()
        assert found == " ".join(name.split())


@pytest.mark.parametrize(
    ("content_type", "sent", "charset"),
    [
        ("application/pdf", "application/pdf", None),
        ("Text/CSV", "text/csv", "utf-8"),
        ("text/csv; charset=ISO-8859-1", "text/csv", "iso-8859-1"),
        ('text/plain; charset="x y"', "text/plain", "utf-8"),
        ('text/plain; charset="a\\"; evil=b"', "text/plain", "utf-8"),
        ("text/html", "text/html", "utf-8"),
        ("message/rfc822", "application/octet-stream", None),
        ("multipart/mixed; boundary=x", "application/octet-stream", None),
        ("text/plain\r\nBcc: eve@example.com", "application/octet-stream", None),
        ("nothing", "application/octet-stream", None),
    ],
    ids=range(10),
)
def test_types_of_attachments(content_type: str, sent: str, charset: str | None) -> None:
    content = bytes(range(256)) * 40 + b"\r\n.\r\n--x\n"
    parsed = assert_sound(message_bytes(attached("x", content_type, content)))
    readable, file = parsed.get_payload()
    assert readable.get_content_type() == "multipart/alternative"
    assert (file.get_content_type(), file.get_content_charset()) == (sent, charset)
    assert sorted(file.keys()) == PART_HEADERS
    assert file.get_payload(decode=True) == content


def test_a_mail_of_text_with_attachments() -> None:
    raw = message_bytes(dataclasses.replace(attached("x.csv"), html=None))
    text, file = assert_sound(raw).get_payload()
    assert (text.get_content_type(), file.get_content_type()) == ("text/plain", "text/csv")


def test_a_subject_and_a_name_are_shown_as_they_were_written() -> None:
    parsed = assert_sound(message_bytes(mail(subject="Grüße 👩‍👧", sender_name='Jürgen "J" Ö')))
    assert parsed["Subject"] == "Grüße 👩‍👧"
    assert parsed["From"].addresses[0].display_name == 'Jürgen "J" Ö'
    raw = message_bytes(
        mail(sender_name='Müller & "Söhne", Inc.'.encode("ascii", "ignore").decode())
    )
    assert message_from_bytes(raw)["From"] == '"Mller & \\"Shne\\", Inc." <noreply@sinas.example>'


def test_a_dot_alone_does_not_end_a_mail() -> None:
    raw = message_bytes(mail(text="a\n.\nb\n", html="x"))
    parsed = message_from_bytes(raw, policy=policy.default)
    assert next(parsed.iter_parts()).get_content() == "a\r\n.\r\nb\r\n"


def test_a_mail_of_text_has_one_part() -> None:
    raw = message_bytes(mail(html=None, text="Ärger\n"))
    parsed = message_from_bytes(raw, policy=policy.default)
    assert parsed.get_content_type() == "text/plain"
    assert parsed.get_content() == "Ärger\r\n"


def test_long_subjects_are_cut() -> None:
    raw = message_bytes(mail(subject="x" * 5000))
    assert len(message_from_bytes(raw)["Subject"].strip()) == MAX_SUBJECT_CHARS


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada+x@bücher.example", "ada+x@xn--bcher-kva.example"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("ada@例え.jp", "ada@xn--r8jz45g.jp"),
    ],
)
def test_domains_are_ascii_on_the_wire(address: str, wire: str) -> None:
    assert wire_address(address) == wire
    assert wire.encode() in message_bytes(mail(to=address))


@pytest.mark.parametrize("address", ["ädä@example.com", "ada@ö-.x"])
def test_addresses_that_have_no_wire_form(address: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire_address(address)
    assert [error.field for error in caught.value.errors] == ["to"]
