"""A mail as bytes. Whatever users write stays inside the header or the part it was meant for.

Headers are made here, word by word. `email.message.EmailMessage` would parse what it is given:
an encoded word in a subject that decodes to a line end became a header of its own there
(CVE-2024-6923, in Python before 3.11.10).
"""

import re
from dataclasses import dataclass
from email.charset import QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from typing import Any

import idna

from sinas.errors import FieldError, InvalidInputError

MAX_SUBJECT_CHARS = 500
MAX_NAME_CHARS = 200
# RFC 5322: what a name may hold without quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
# Joins parts of an emoji; the other invisible characters can turn a text around.
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message to one person.

    Attributes:
        sender: Address, also of the envelope.
        sender_name: What mail programs show for it; empty for nothing.
        html: None for a mail of plain text.
    """

    sender: str
    sender_name: str
    to: str
    subject: str
    text: str
    html: str | None = None


def message_bytes(mail: Mail) -> bytes:
    """The message with its headers; lines end as SMTP wants it.

    Raises:
        InvalidInputError: An address cannot be written in ASCII.
    """
    message: MIMEMultipart | MIMEText
    if mail.html is None:
        message = _part(mail.text, "plain")
    else:
        message = MIMEMultipart("alternative")
        message.attach(_part(mail.text, "plain"))
        message.attach(_part(mail.html, "html"))
    sender = wire_address(mail.sender)
    # Typed as texts, but this kind of message takes both.
    headers: dict[str, Any] = {
        "From": _mailbox("From", mail.sender_name, sender),
        "To": Header(wire_address(mail.to), "us-ascii", header_name="To"),
        "Subject": _words("Subject", mail.subject),
    }
    for name, header in headers.items():
        message[name] = header
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    # Keeps out-of-office replies away.
    message["Auto-Submitted"] = "auto-generated"
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def wire_address(address: str) -> str:
    """An address as mail servers take it: its domain in ASCII.

    Raises:
        InvalidInputError: Its domain is no host name, or the part before the @ is not ASCII,
            which few servers take.
    """
    local, _, domain = address.rpartition("@")
    if not local.isascii():
        message = "has letters before the @ that mail servers do not take"
        raise InvalidInputError(f"to {message}", [FieldError("to", message)])
    if domain.isascii():
        return address
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError:
        message = "has a domain that does not exist in the domain name system"
        raise InvalidInputError(f"to {message}", [FieldError("to", message)]) from None


def one_line(text: str) -> str:
    """`text` without line ends, control characters and what turns the writing direction."""
    shown = "".join(c if c.isprintable() or c == _JOINER else " " for c in text)
    return " ".join(shown.split())


def _is_plain(text: str) -> bool:
    """Whether a header can hold it as it is; `=?` would be read as an encoded word."""
    return text.isascii() and "=?" not in text


def _words(name: str, text: str) -> Header:
    line = one_line(text)[:MAX_SUBJECT_CHARS]
    return Header(line, "us-ascii" if _is_plain(line) else "utf-8", header_name=name)


def _mailbox(header: str, name: str, address: str) -> Header:
    line = one_line(name)[:MAX_NAME_CHARS]
    if not line:
        return Header(address, "us-ascii", header_name=header)
    if not _is_plain(line):
        mailbox = Header(line, "utf-8", header_name=header)
    elif _ATOMS.fullmatch(line):
        mailbox = Header(line, "us-ascii", header_name=header)
    else:
        quoted = line.replace("\\", "\\\\").replace('"', '\\"')
        mailbox = Header(f'"{quoted}"', "us-ascii", header_name=header)
    mailbox.append(f"<{address}>", "us-ascii")
    return mailbox


def _part(text: str, subtype: str) -> MIMEText:
    charset = Charset("utf-8")
    charset.body_encoding = QP
    # Mail has lines that end in CRLF, and no other line ends.
    lines = re.sub(r"\r\n?|\n", "\r\n", text.replace("\x00", ""))
    return MIMEText(lines, subtype, charset)  # type: ignore[arg-type]
