"""How a one-time code reaches its user: by mail, or on the log of a development machine.

Nobody may learn from an answer whether an address is known. So the part that can fail for
everybody (reaching the mail server) comes first and answers 503 to known and unknown alike,
and the part that only known addresses have (the message itself) runs beside the answer: its
failure is logged, and its time is not seen.
"""

from email.message import EmailMessage
from typing import Protocol

import structlog
from aiosmtplib import SMTPException

from sinas.errors import UnavailableError
from sinas.kit.mail import MailConnection, MailServer, open_mail
from sinas.settings import MailSettings, Settings

log = structlog.get_logger(__name__)

LOGIN_CODE = "auth.login_code"
LOGIN_UNKNOWN = "auth.login_unknown"
MAIL_FAILED = "auth.mail_failed"


class Delivery(Protocol):
    """A way to users that is known to work at this moment."""

    async def finish(self, email: str, code: str | None) -> None:
        """Deliver `code`; None means that no user has this address. Never raises for either."""
        ...

    async def close(self) -> None:
        """Give up without delivering."""
        ...


async def open_delivery(settings: Settings) -> Delivery:
    """The way codes take on this installation.

    Raises:
        UnavailableError: The mail server does not answer, or production has none.
    """
    mail = settings.mail
    if mail.host and mail.domain:
        connection = await open_mail(_server(mail))
        return MailDelivery(connection, mail.domain, settings.auth.otp_expire_minutes)
    if settings.is_production:
        raise UnavailableError(
            "This installation cannot send login codes: the operator has to set SMTP_HOST and "
            "SMTP_DOMAIN.",
            retry_after_seconds=300,
        )
    return LogDelivery()


class MailDelivery:
    """Sends the code over a connection that is already open."""

    def __init__(self, connection: MailConnection, domain: str, minutes: int) -> None:
        self._connection = connection
        self._domain = domain
        self._minutes = minutes

    async def finish(self, email: str, code: str | None) -> None:
        """Send one message, or hang up."""
        if code is None:
            await self.close()
            return
        try:
            await self._connection.send(self._message(email, code))
        except (SMTPException, OSError) as error:
            log.warning(MAIL_FAILED, email=email, error=str(error))

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()

    def _message(self, email: str, code: str) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = "Your Sinas login code"
        message["From"] = f"Sinas <login@{self._domain}>"
        message["To"] = email
        # Keeps out-of-office replies away.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(
            f"Your login code is {code}\n\n"
            f"It works once, within {self._minutes} minutes. If you did not try to log in, "
            "ignore this mail: without the code nobody can.\n"
        )
        return message


class LogDelivery:
    """Shows the code to whoever reads the log of a machine without a mail server."""

    async def finish(self, email: str, code: str | None) -> None:
        """Log the code."""
        if code is None:
            log.info(LOGIN_UNKNOWN, email=email)
        else:
            log.warning(LOGIN_CODE, email=email, code=code)

    async def close(self) -> None:
        """Nothing is open."""


def _server(mail: MailSettings) -> MailServer:
    return MailServer(
        host=mail.host,
        port=mail.port,
        user=mail.user,
        password=mail.password.get_secret_value(),
        starttls=mail.starttls,
    )
