"""Using a template: fill it in, and mail what comes out. No transaction is open meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from uuid import UUID

import structlog
from aiosmtplib import (
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPTimeoutError,
)

from sinas.auth.principal import Principal
from sinas.auth.rate_limit import RateLimiter
from sinas.context import AppContext
from sinas.errors import (
    BadRequestError,
    DeadlineError,
    FieldError,
    InvalidInputError,
    SinasError,
    UnavailableError,
    UpstreamError,
)
from sinas.kit.mail import SLOWEST_BYTES_PER_SECOND, open_mail
from sinas.kit.mail_message import MAX_SUBJECT_CHARS, Attachment, Mail, one_line, wire_address
from sinas.models import Template
from sinas.resources.templates.attachments import FoundFile, find_files, read_files
from sinas.resources.templates.rendering import Rendered, rendered
from sinas.resources.templates.schemas import (
    TemplateEmailRequest,
    TemplateEmailResponse,
    TemplateRenderRequest,
    TemplateRenderResponse,
)
from sinas.resources.templates.service import TemplateService

log = structlog.get_logger(__name__)

MAIL_SENT = "templates.mail_sent"
MAIL_FAILED = "templates.mail_failed"
SEND_SECONDS = 12.0
# What a server answers that wants no mail of that size (RFC 1870).
_TOO_LARGE: Final = 552
# A mail with attachments is in memory as a whole, up to ten times as large as they are.
_WITH_FILES: Final = 4
_with_files = asyncio.Semaphore(_WITH_FILES)
_PATIENCE_SECONDS: Final = 10.0
_SENDER = "noreply"
_SUBJECT = "Notification"

Reference: TypeAlias = UUID | tuple[str, str]


class TemplateUse:
    """What one caller does with templates."""

    def __init__(self, context: AppContext, principal: Principal) -> None:
        self._context = context
        self._principal = principal
        auth = context.settings.auth
        self._limits = RateLimiter(context.redis, auth.rate_limit_window_seconds)

    async def render(
        self, reference: Reference, request: TemplateRenderRequest, *, inactive: bool = False
    ) -> TemplateRenderResponse:
        """Fill a template in.

        Raises:
            NotFoundError: Absent, switched off, or not visible to the caller.
            ForbiddenError: Visible, but not to render.
            BadRequestError: The variables do not fit, or the template fails.
        """
        template = await self._template(reference, "render", inactive=inactive)
        found = await asyncio.to_thread(rendered, template, request.variables)
        return TemplateRenderResponse(
            title=found.title, html_content=found.html, text_content=found.text
        )

    async def send(
        self, reference: Reference, request: TemplateEmailRequest
    ) -> TemplateEmailResponse:
        """Fill a template in and mail it.

        Raises:
            NotFoundError: Absent, switched off, or not visible to the caller.
            ForbiddenError: Visible, but not to send.
            BadRequestError: The variables do not fit, or the template fails.
            NotFoundError, ForbiddenError: Likewise of an attachment, which it names.
            InvalidInputError: The recipient cannot be written to, or attachments are too large.
            RateLimitedError: The caller has sent too much.
            UnavailableError: There is no mail server, it has no time for us, or too many mails
                with attachments are under way.
            UpstreamError: It refused the mail.
            DeadlineError: It took too long; the mail may or may not arrive.
        """
        template = await self._template(reference, "send")
        settings = self._context.settings
        if not (settings.mail.host and settings.mail.domain):
            raise UnavailableError(
                "This installation cannot send mail: the operator has to set SMTP_HOST and "
                "SMTP_DOMAIN.",
                retry_after_seconds=300,
            )
        wire_address(request.to)
        found, text = await asyncio.to_thread(_readable, template, request)
        files = await find_files(self._context, self._principal, request.attachments)
        key = f"email:user:{self._principal.user_id}"
        await self._limits.hit(key, settings.auth.rate_limit_email_max)
        async with self._attached(files) as attachments:
            await self._deliver(
                template,
                Mail(
                    sender=f"{request.from_alias or _SENDER}@{settings.mail.domain}",
                    sender_name=request.from_name or "",
                    to=request.to,
                    subject=one_line(found.title or "") or _SUBJECT,
                    text=text,
                    html=found.html,
                    attachments=attachments,
                ),
            )
        return TemplateEmailResponse(message="Email sent successfully", to=request.to)

    async def _template(
        self, reference: Reference, action: str, *, inactive: bool = False
    ) -> Template:
        async with self._context.statement_unit() as unit:
            service = TemplateService(unit, self._principal)
            return await service.usable(reference, action, inactive=inactive)

    @asynccontextmanager
    async def _attached(self, files: Sequence[FoundFile]) -> AsyncIterator[tuple[Attachment, ...]]:
        """Contents in memory, of few mails at once."""
        if not files:
            yield ()
            return
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await _with_files.acquire()
        except TimeoutError as error:
            raise UnavailableError(
                "Too many mails with attachments are being sent; try again later.",
                retry_after_seconds=30,
            ) from error
        try:
            yield await read_files(self._context, files)
        finally:
            _with_files.release()

    async def _deliver(self, template: Template, mail: Mail) -> None:
        told = {
            "template": f"{template.namespace}/{template.name}",
            "user": str(self._principal.user_id),
        }
        try:
            await self._hand_over(mail)
        except SinasError as error:
            # What the server said may name its hosts and users: it is in the log alone.
            log.warning(MAIL_FAILED, **told, code=error.code, cause=repr(error.__cause__))
            raise
        log.info(MAIL_SENT, **told)

    async def _hand_over(self, mail: Mail) -> None:
        connection = None
        seconds = SEND_SECONDS + mail.attached_bytes / SLOWEST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(seconds):
                connection = await open_mail(self._context.settings.mail)
                await connection.send(mail)
        except (TimeoutError, SMTPTimeoutError) as error:
            raise DeadlineError(
                f"The mail server did not answer within {seconds:.3g} seconds; the mail may "
                "have been sent all the same."
            ) from error
        except (SMTPException, OSError) as error:
            raise _meaning(error, mail) from error
        finally:
            if connection is not None:
                await connection.close()


def _readable(template: Template, request: TemplateEmailRequest) -> tuple[Rendered, str]:
    found = rendered(template, request.variables)
    if found.title is not None and len(found.title) > MAX_SUBJECT_CHARS:
        message = (
            f"makes a subject of {len(found.title)} characters; the limit is {MAX_SUBJECT_CHARS}"
        )
        raise BadRequestError(f"title {message}", [FieldError("title", message)])
    return found, found.readable_text


def _meaning(error: Exception, mail: Mail) -> SinasError:
    """What a mail server's refusal tells the sender: its code, not its words."""
    refused = error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error
    if not isinstance(refused, SMTPResponseException):
        return UnavailableError(
            "The mail server hung up before it took the mail; try again later.",
            retry_after_seconds=60,
        )
    if refused.code < 500:
        return UnavailableError(
            f"The mail server does not take the mail now (SMTP {refused.code}); try again later.",
            retry_after_seconds=60,
        )
    if refused is not error:
        message = f"is refused by the mail server (SMTP {refused.code}); check the address"
        return InvalidInputError(f"to {message}", [FieldError("to", message)])
    if refused.code == _TOO_LARGE and mail.attachments:
        message = f"are more than the mail server takes (SMTP {refused.code}); attach less"
        return InvalidInputError(f"attachments {message}", [FieldError("attachments", message)])
    return UpstreamError(f"The mail server refused the mail (SMTP {refused.code}).")
