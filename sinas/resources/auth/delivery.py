"""How a one-time code reaches its user: by mail, or on the log of a development machine.

Nobody may learn from an answer whether an address is known. So the part that can fail for
everybody (reaching the mail server) comes first and answers 503 to known and unknown alike,
and the part that only known addresses have (the message itself) runs beside the answer: its
failure is logged, and its time is not seen.
"""

import asyncio
from typing import Protocol

import structlog
from aiosmtplib import SMTPException

from sinas.context import AppContext
from sinas.errors import InvalidInputError, UnavailableError
from sinas.kit.mail import MailConnection, open_mail
from sinas.kit.mail_message import Mail
from sinas.models import Template
from sinas.resources.templates.service import (
    filled_login_code,
    login_code_template,
)

log = structlog.get_logger(__name__)

LOGIN_CODE = "auth.login_code"
LOGIN_UNKNOWN = "auth.login_unknown"
MAIL_FAILED = "auth.mail_failed"
TEMPLATE_FAILED = "auth.mail_template_failed"


class Delivery(Protocol):
    """A way to users that is known to work at this moment."""

    async def finish(self, email: str, code: str | None) -> None:
        """Deliver `code`; None means that no user has this address. Never raises for either."""
        ...

    async def close(self) -> None:
        """Give up without delivering."""
        ...


async def open_delivery(context: AppContext) -> Delivery:
    """The way codes take on this installation.

    Raises:
        UnavailableError: The mail server does not answer, or production has none.
    """
    settings = context.settings
    mail = settings.mail
    if mail.host and mail.domain:
        async with context.statement_sessions() as session:
            template = await login_code_template(session)
        connection = await open_mail(mail)
        sender = f"login@{mail.domain}"
        return MailDelivery(connection, template, sender, settings.auth.otp_expire_minutes)
    if settings.is_production:
        raise UnavailableError(
            "This installation cannot send login codes: the operator has to set SMTP_HOST and "
            "SMTP_DOMAIN.",
            retry_after_seconds=300,
        )
    return LogDelivery()


class MailDelivery:
    """Sends the code over a connection that is already open."""

    def __init__(
        self, connection: MailConnection, template: Template, sender: str, minutes: int
    ) -> None:
        self._connection = connection
        self._template = template
        self._sender = sender
        self._minutes = minutes

    async def finish(self, email: str, code: str | None) -> None:
        """Send one message, or hang up."""
        try:
            if code is not None:
                mail = await asyncio.to_thread(self._mail, email, code)
                await self._connection.send(mail)
        except (SMTPException, OSError, InvalidInputError) as error:
            log.warning(MAIL_FAILED, email=email, error=str(error))
        finally:
            await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()

    def _mail(self, email: str, code: str) -> Mail:
        try:
            found = filled_login_code(self._template, code, email, self._minutes)
        except InvalidInputError as error:
            # A template that somebody broke must not keep everybody out, them included.
            log.warning(TEMPLATE_FAILED, error=error.message)
            found = filled_login_code(None, code, email, self._minutes)
        return Mail(
            sender=self._sender,
            sender_name="Sinas",
            to=email,
            subject=found.title or "Your Sinas login code",
            text=found.readable_text,
            html=found.html,
        )


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
