"""Rules of skills."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.errors import ForbiddenError
from sinas.models import Skill
from sinas.resources.skills.repository import SkillRepository
from sinas.resources.skills.schemas import SkillCreate, SkillUpdate


class SkillService(CrudService[Skill, SkillCreate, SkillUpdate]):
    """Operations on skills, for one caller."""

    repository = SkillRepository
    noun = "skill"
    rows: SkillRepository

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Skill]:
        """Skills the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    async def discover(self, *, skip: int, limit: int) -> Sequence[Skill]:
        """Active skills the caller may read, by name."""
        return await self.rows.active(skip=skip, limit=limit)

    @override
    async def check(self, values: dict[str, Any], row: Skill | None) -> None:
        if row is None:
            return
        namespace, name = values.get("namespace", row.namespace), values.get("name", row.name)
        is_renamed = (namespace, name) != (row.namespace, row.name)
        if is_renamed and not self.principal.can_create("skills", namespace, name):
            raise ForbiddenError(f"Not authorized to name a skill '{namespace}/{name}'.")

    @override
    async def delete(self, namespace: str, name: str) -> None:
        row = await self.changeable(namespace, name, "delete")
        row.deleted_at = func.now()
        row.is_active = False
