"""Rows of skills."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.auth.authenticate import PRINCIPAL_COLUMNS, deferred_principal
from sinas.auth.principal import Principal
from sinas.crud.references import matching
from sinas.crud.repository import Repository
from sinas.models import Agent, Skill, User

_there = Skill.deleted_at.is_(None)


class SkillRepository(Repository[Skill]):
    """Skills that were not deleted."""

    model = Skill
    resource = "skills"

    @override
    def visible(self, action: str = "read") -> Select[Any]:
        """Rows the caller may do `action` on."""
        return super().visible(action).where(_there)

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Skill]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Skill.created_at.desc(), Skill.id.desc())
        if namespace is not None:
            statement = statement.where(Skill.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)

    async def active(self, *, skip: int, limit: int) -> Sequence[Skill]:
        """Readable and active ones, by name."""
        statement = self.visible().where(Skill.is_active).order_by(Skill.namespace, Skill.name)
        return await self.page(statement, skip=skip, limit=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableSkill:
    """A skill an agent may use. `content` is None unless asked for."""

    id: UUID
    namespace: str
    name: str
    description: str
    content: str | None

    @property
    def reference(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


async def usable(
    session: AsyncSession,
    agent: Agent,
    caller: Principal,
    references: Iterable[str],
    *,
    with_content: bool,
) -> Sequence[UsableSkill]:
    """Active skills that the references name and that the agent's owner, or the caller, may read.

    The owner, because a skill is a part of what they made, as the prompt is: whoever may chat
    with the agent need not be able to read its skills. Not everybody's, because an agent with
    `*/*` would then show its owner what others wrote for themselves.

    One query; rows are by name.
    """
    owner = select(*PRINCIPAL_COLUMNS).where(User.id == agent.user_id).cte("owner")
    # Or the owner's rights would be gathered anew for every skill.
    owner = owner.prefix_with("MATERIALIZED")
    statement = (
        select(
            *(Skill.id.label("skill_id"), Skill.user_id.label("author"), Skill.namespace),
            *(Skill.name, Skill.description),
            *((Skill.content,) if with_content else ()),
            *owner.c,
        )
        .outerjoin(owner, true())
        .where(_there, Skill.is_active, matching(Skill, references))
        .order_by(Skill.namespace, Skill.name)
    )
    rows = (await session.execute(statement)).all()
    return [_usable(row, with_content) for row in rows if _may_use(row, caller)]


def _may_use(row: Row[*tuple[Any, ...]], caller: Principal) -> bool:
    found = row._asdict()
    readers = [caller]
    if found["id"] is not None:
        readers.append(deferred_principal(found, None))
    return any(
        reader.can_on(
            "skills", row.namespace, row.name, "read", own=reader.user_id == found["author"]
        )
        for reader in readers
    )


def _usable(row: Row[*tuple[Any, ...]], with_content: bool) -> UsableSkill:
    return UsableSkill(
        id=row.skill_id,
        namespace=row.namespace,
        name=row.name,
        description=row.description,
        content=row.content if with_content else None,
    )


async def content_of(session: AsyncSession, skill_id: UUID) -> str | None:
    """The text of a skill whose use was checked; None when it is gone or inactive by now."""
    statement = select(Skill.content).where(Skill.id == skill_id, _there, Skill.is_active)
    return await session.scalar(statement)
