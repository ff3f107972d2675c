"""Runtime operations of agents: what may this caller use."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Agent
from sinas.resources.agents.schemas import AgentRead
from sinas.resources.agents.service import AgentService
from sinas.web.application import Application
from sinas.web.deps import CREDENTIALS, allowed, authenticated
from sinas.web.icons import Icons
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["discovery"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

Signed = Annotated[AgentService, Depends(authenticated(AgentService))]
Read = Annotated[AgentService, Depends(allowed(AgentService, "agents", "read"))]


@router.get("/agents/default", response_model=AgentRead)
async def get_default_agent(agents: Signed, icons: Icons) -> Agent:
    """Get the default agent."""
    return await icons.on(await agents.default())


@router.get("/agents", response_model=list[AgentRead])
@router.get("/discovery/agents", response_model=list[AgentRead])
async def discover_agents(
    agents: Read, icons: Icons, _: Application, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Agent]:
    """List the active agents the caller may use."""
    return await icons.on_all(await agents.discover(skip=skip, limit=limit))
