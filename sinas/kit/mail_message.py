"""A mail as bytes. Whatever users write stays inside the header or the part it was meant for.

Headers are made here, word by word. `email.message.EmailMessage` would parse what it is given:
an encoded word in a subject that decodes to a line end became a header of its own there
(CVE-2024-6923, in Python before 3.11.10).
"""

import re
from dataclasses import dataclass, field
from email.charset import QP, Charset
from email.encoders import encode_base64
from email.header import Header
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from typing import Any, Final
from urllib.parse import quote

import idna

from sinas.errors import FieldError, InvalidInputError
from sinas.kit.media_types import PLAIN, essence, is_media_type

MAX_SUBJECT_CHARS = 500
MAX_NAME_CHARS = 200
# Of a file's name in one line of a header, which should have 76 with what is around it.
_LINE_CHARS: Final = 60
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}")
# RFC 5322: what a name may hold without quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
# Joins parts of an emoji; the other invisible characters can turn a text around.
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that goes with a mail.

    Attributes:
        name: What mail programs show and save it as.
        content_type: Its media type. What is none, or is one of mails, is sent as bytes.
    """

    name: str
    content_type: str
    content: bytes = field(repr=False)


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
    attachments: tuple[Attachment, ...] = ()

    @property
    def attached_bytes(self) -> int:
        """What the attachments have together, before they are encoded."""
        return sum(len(one.content) for one in self.attachments)


def message_bytes(mail: Mail) -> bytes:
    """The message with its headers; lines end as SMTP wants it.

    Up to half a second of work, for much text or large attachments: better not on an event loop.

    Raises:
        InvalidInputError: An address cannot be written in ASCII.
    """
    message = _content(mail)
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
        mailbox = Header(_quoted(line), "us-ascii", header_name=header)
    mailbox.append(f"<{address}>", "us-ascii")
    return mailbox


def _quoted(line: str) -> str:
    escaped = line.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _content(mail: Mail) -> MIMEBase:
    readable: MIMEBase = _part(mail.text, "plain")
    if mail.html is not None:
        text, readable = readable, MIMEMultipart("alternative")
        readable.attach(text)
        readable.attach(_part(mail.html, "html"))
    if not mail.attachments:
        return readable
    whole = MIMEMultipart("mixed")
    for part in (readable, *map(_file, mail.attachments)):
        whole.attach(part)
    return whole


def _part(text: str, subtype: str) -> MIMEText:
    charset = Charset("utf-8")
    charset.body_encoding = QP
    # Mail has lines that end in CRLF, and no other line ends.
    lines = re.sub(r"\r\n?|\n", "\r\n", text.replace("\x00", ""))
    return MIMEText(lines, subtype, charset)  # type: ignore[arg-type]


def _file(attachment: Attachment) -> MIMEBase:
    kind = essence(attachment.content_type)
    family, _, subtype = kind.partition("/")
    # Mails and parts of them may not be sent in base64 (RFC 2046), and programs would look inside.
    if family in ("message", "multipart") or not is_media_type(attachment.content_type):
        family, _, subtype = PLAIN.partition("/")
    part = MIMEBase(family, subtype)
    if family == "text":
        part.set_param("charset", _charset(attachment.content_type))
    part.set_payload(attachment.content)
    encode_base64(part)
    part["Content-Disposition"] = _disposition(attachment.name)
    return part


def _charset(content_type: str) -> str:
    """That of a text; UTF-8 unless it says another one."""
    header = Message()
    header["Content-Type"] = content_type
    said = header.get_content_charset("utf-8")
    return said if _CHARSET.fullmatch(said) else "utf-8"


def _disposition(name: str) -> str:
    """That of a file with any name: as it is, or by RFC 2231, which needs no other encoding.

    Written here in sections: `email` would put a long name on one line, longer than mail may have.
    """
    line = one_line(name) or "file"
    if _is_plain(line) and len(line) <= _LINE_CHARS:
        return f"attachment; filename={_quoted(line)}"
    sections = ["utf-8''"]
    for character in line:
        # Whole ones, for programs that decode section by section.
        encoded = quote(character, safe="")
        if len(sections[-1]) + len(encoded) > _LINE_CHARS:
            sections.append("")
        sections[-1] += encoded
    if len(sections) == 1:
        return f"attachment; filename*={sections[0]}"
    named = (f"filename*{number}*={section}" for number, section in enumerate(sections))
    return "; ".join(("attachment", *named))
