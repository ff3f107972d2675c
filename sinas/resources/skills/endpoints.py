"""Management operations of skills."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Skill
from sinas.resources.skills.schemas import SkillCreate, SkillRead, SkillUpdate
from sinas.resources.skills.service import SkillService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/skills", tags=["skills"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[SkillService, Depends(allowed(SkillService, "skills", "create"))]
Read = Annotated[SkillService, Depends(allowed(SkillService, "skills", "read"))]
Update = Annotated[SkillService, Depends(allowed(SkillService, "skills", "update"))]
Delete = Annotated[SkillService, Depends(allowed(SkillService, "skills", "delete"))]


@router.post("", status_code=201, response_model=SkillRead)
async def create_skill(data: SkillCreate, skills: Create) -> Skill:
    """Create a skill, owned by the caller."""
    return await skills.create(data)


@router.get("", response_model=list[SkillRead])
async def list_skills(
    skills: Read, namespace: str | None = None, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Skill]:
    """List the skills the caller may read, newest first, inactive ones included."""
    return await skills.listed(namespace, skip=skip, limit=limit)


@router.get("/{namespace}/{name}", response_model=SkillRead)
async def get_skill(namespace: str, name: str, skills: Read) -> Skill:
    """Get one skill."""
    return await skills.get(namespace, name)


@router.put("/{namespace}/{name}", response_model=SkillRead)
async def update_skill(namespace: str, name: str, data: SkillUpdate, skills: Update) -> Skill:
    """Change a skill; fields left out stay as they are. Agents follow it from their next turn on."""
    return await skills.update(namespace, name, data)


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_skill(namespace: str, name: str, skills: Delete) -> None:
    """Delete a skill. Agents that name it go on without it; its name is free again."""
    await skills.delete(namespace, name)
