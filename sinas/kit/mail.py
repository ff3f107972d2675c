"""Sending mail over SMTP, in two steps: reach the server, then hand over a message."""

from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal

from aiosmtplib import SMTP, SMTPException

from sinas.errors import UnavailableError

_TIMEOUT_SECONDS = 10.0
_IMPLICIT_TLS_PORT = 465


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail goes out.

    Attributes:
        port: 465 means TLS from the first byte.
        starttls: `auto` upgrades where the server offers it.
    """

    host: str
    port: int
    user: str
    password: str
    starttls: Literal["auto", "never"]


class MailConnection:
    """A server that said hello and accepted our credentials."""

    def __init__(self, client: SMTP) -> None:
        self._client = client

    async def send(self, message: EmailMessage) -> None:
        """Hand over one message and hang up.

        Raises:
            SMTPException: The server refused the sender, a recipient or the text.
        """
        try:
            await self._client.send_message(message)
        finally:
            await self.close()

    async def close(self) -> None:
        """Hang up; a server that is gone already is no error."""
        try:
            await self._client.quit()
        except (SMTPException, OSError):
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
        password=server.password or None,
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
    return MailConnection(client)
