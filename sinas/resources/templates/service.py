"""Rules of templates."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.templates import TemplateError, check_document
from sinas.models import Template
from sinas.resources.templates.built_in import LOGIN_CODE, original_login_code
from sinas.resources.templates.rendering import Rendered, rendered
from sinas.resources.templates.repository import TemplateRepository, built_in
from sinas.resources.templates.schemas import TemplateCreate, TemplateUpdate

_PARTS = ("title", "html_content", "text_content")
# Stamps of config as code: whoever edits by hand takes the template over.
_DETACHED = {"managed_by": None, "config_name": None, "config_checksum": None}


class TemplateService(CrudService[Template, TemplateCreate, TemplateUpdate]):
    """Operations on templates, for one caller."""

    repository = TemplateRepository
    noun = "template"
    rows: TemplateRepository

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Template]:
        """Templates the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    async def discover(self, *, skip: int, limit: int) -> Sequence[Template]:
        """Active templates the caller may read, by name."""
        return await self.rows.active(skip=skip, limit=limit)

    async def by_id(self, template_id: UUID) -> Template:
        """One template.

        Raises:
            NotFoundError: Absent, or not visible to the caller.
        """
        row = await self.rows.by_id(template_id)
        if row is None:
            raise _missing(template_id)
        return row

    async def update_by_id(self, template_id: UUID, data: TemplateUpdate) -> Template:
        """As `update`, of the template with this id."""
        row = await self.by_id(template_id)
        return await self.update(row.namespace, row.name, data)

    async def delete_by_id(self, template_id: UUID) -> None:
        """As `delete`, of the template with this id."""
        row = await self.by_id(template_id)
        await self.delete(row.namespace, row.name)

    async def usable(
        self, reference: UUID | tuple[str, str], action: str, *, inactive: bool = False
    ) -> Template:
        """The template, to `render` or to `send` it.

        Args:
            reference: Its id, or its namespace and name.
            action: What the caller wants to do.
            inactive: Whether it may be one that is switched off.

        Raises:
            NotFoundError: Absent, switched off, or not visible to the caller.
            ForbiddenError: Visible, but not for this.
        """
        if isinstance(reference, UUID):
            row = await self.rows.by_id(reference, action)
            seen = row or await self.by_id(reference)
        else:
            row = await self.rows.by_name(*reference, action)
            seen = row or await self.get(*reference)
        if row is None:
            raise ForbiddenError(
                f"Not authorized to {action} template '{seen.namespace}/{seen.name}'."
            )
        if not (row.is_active or inactive):
            if isinstance(reference, UUID):
                raise _missing(reference)
            raise self.missing(*reference)
        return row

    @override
    async def check(self, values: dict[str, Any], row: Template | None) -> None:
        await asyncio.to_thread(_check_parts, values)
        if row is None:
            values["created_by"] = self.principal.user_id
        elif values:
            namespace, name = values.get("namespace", row.namespace), values.get("name", row.name)
            is_renamed = (namespace, name) != (row.namespace, row.name)
            if is_renamed and not self.principal.can_create("templates", namespace, name):
                raise ForbiddenError(f"Not authorized to name a template '{namespace}/{name}'.")
            values |= _DETACHED
        if values:
            values["updated_by"] = self.principal.user_id


def _check_parts(values: dict[str, Any]) -> None:
    """Find a broken part when it is saved, not when somebody waits for a mail."""
    for field in _PARTS:
        if not (text := values.get(field)):
            continue
        try:
            check_document(text, is_html=field == "html_content")
        except TemplateError as error:
            message = error.message
            raise InvalidInputError(f"{field}: {message}", [FieldError(field, message)]) from error


def _missing(template_id: UUID) -> NotFoundError:
    return NotFoundError(f"Template '{template_id}' not found")


async def login_code_template(session: AsyncSession) -> Template:
    """What login codes are mailed with: as admins left it, or as it came."""
    return await built_in(session, LOGIN_CODE.namespace, LOGIN_CODE.name) or original_login_code()


def filled_login_code(template: Template | None, code: str, email: str, minutes: int) -> Rendered:
    """A login code's mail, by a template or, for None, as it came. To be done in a thread.

    Raises:
        BadRequestError: The template, as admins left it, fails.
    """
    return rendered(
        template or original_login_code(),
        {"otp_code": code, "user_email": email, "expiry_minutes": minutes},
    )
