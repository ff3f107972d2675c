"""Runtime operations of skills: which are there for this caller."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Skill
from sinas.resources.skills.schemas import SkillRead
from sinas.resources.skills.service import SkillService
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["discovery"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Read = Annotated[SkillService, Depends(allowed(SkillService, "skills", "read"))]


@router.get("/skills", response_model=list[SkillRead])
@router.get("/discovery/skills", response_model=list[SkillRead])
async def discover_skills(
    skills: Read, _: Application, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Skill]:
    """List the active skills you may read, by name."""
    return await skills.discover(skip=skip, limit=limit)
