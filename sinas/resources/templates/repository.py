"""Rows of templates."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.crud.repository import Repository
from sinas.models import Template


class TemplateRepository(Repository[Template]):
    """Templates, as one caller may see them."""

    model = Template
    resource = "templates"

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Template]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Template.created_at.desc(), Template.id.desc())
        if namespace is not None:
            statement = statement.where(Template.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)

    async def active(self, *, skip: int, limit: int) -> Sequence[Template]:
        """Readable and active ones, by name."""
        statement = (
            self.visible().where(Template.is_active).order_by(Template.namespace, Template.name)
        )
        return await self.page(statement, skip=skip, limit=limit)


async def built_in(session: AsyncSession, namespace: str, name: str) -> Template | None:
    """A template that belongs to the platform, if it is active.

    One that somebody made under its name is not it: it may not speak for the platform.
    """
    statement = select(Template).where(
        Template.namespace == namespace,
        Template.name == name,
        Template.user_id.is_(None),
        Template.is_active,
    )
    return await session.scalar(statement)
