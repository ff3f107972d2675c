"""Sending mail over SMTP, in two steps: reach the server, then hand over a message."""

import asyncio
from typing import Final, Literal, Protocol

from aiosmtplib import SMTP, SMTPException, SMTPRecipientsRefused, SMTPResponseException

from sinas.errors import UnavailableError
from sinas.kit.mail_message import Mail, message_bytes, wire_address

_TIMEOUT_SECONDS = 10.0
# Of attachments; a server that takes less in a second does not get them.
SLOWEST_BYTES_PER_SECOND: Final = 500_000
# Saying goodbye is politeness: the mail is sent, or is not, by then.
_GOODBYE_SECONDS = 2.0
_IMPLICIT_TLS_PORT = 465


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


class MailServer(Protocol):
    """Where mail goes out. Port 465 means TLS from the first byte; `auto` upgrades if offered."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> _Secret: ...
    @property
    def starttls(self) -> Literal["auto", "never"]: ...


class MailConnection:
    """A server that said hello and accepted our credentials."""

    def __init__(self, client: SMTP) -> None:
        self._client = client
        # Whether an answer is outstanding: a goodbye would wait for it.
        self._is_waiting = False

    async def send(self, mail: Mail) -> None:
        """Hand over one message.

        Raises:
            SMTPException: The server refused the sender, the recipient or the text.
            OSError: The connection broke.
        """
        sender, recipient = wire_address(mail.sender), wire_address(mail.to)
        message = await asyncio.to_thread(message_bytes, mail)
        timeout = _TIMEOUT_SECONDS + mail.attached_bytes / SLOWEST_BYTES_PER_SECOND
        self._is_waiting = True
        try:
            await self._client.sendmail(sender, [recipient], message, timeout=timeout)
            self._is_waiting = False
        except (SMTPResponseException, SMTPRecipientsRefused):
            self._is_waiting = False
            raise

    async def close(self) -> None:
        """Hang up; a server that is gone already is no error."""
        try:
            if not self._is_waiting:
                await self._client.quit(timeout=_GOODBYE_SECONDS)
        except (SMTPException, OSError):
            pass  # it hears nothing more from us either way
        finally:
            self._client.close()


async def open_mail(server: MailServer) -> MailConnection:
    """Connect, encrypt and sign in, so that what can fail for every message fails now.

    Raises:
        UnavailableError: The server cannot be reached or refuses our credentials.
    """
    client = SMTP(
        hostname=server.host,
        port=server.port,
        timeout=_TIMEOUT_SECONDS,
        use_tls=server.port == _IMPLICIT_TLS_PORT,
        start_tls=False if server.starttls == "never" else None,
        username=server.user or None,
        password=server.password.get_secret_value() or None,
    )
    try:
        await client.connect()
    except (SMTPException, OSError) as error:
        client.close()
        raise UnavailableError(
            "The mail server cannot be reached or refuses to work for us; try again later, or ask "
            "the operator to check the SMTP_* settings.",
            retry_after_seconds=60,
        ) from error
    except BaseException:
        client.close()
        raise
    return MailConnection(client)
