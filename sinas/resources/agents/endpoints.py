"""Management operations of agents."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.models import Agent
from sinas.resources.agents.schemas import AgentCreate, AgentRead, AgentUpdate
from sinas.resources.agents.service import AgentService
from sinas.web.deps import CREDENTIALS, allowed
from sinas.web.icons import Icons
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/agents", tags=["agents"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)

Create = Annotated[AgentService, Depends(allowed(AgentService, "agents", "create"))]
Read = Annotated[AgentService, Depends(allowed(AgentService, "agents", "read"))]
Update = Annotated[AgentService, Depends(allowed(AgentService, "agents", "update"))]
Delete = Annotated[AgentService, Depends(allowed(AgentService, "agents", "delete"))]


@router.post("", status_code=201, response_model=AgentRead)
async def create_agent(data: AgentCreate, agents: Create, icons: Icons) -> Agent:
    """Create an agent, owned by the caller."""
    return await icons.on(await agents.create(data))


@router.get("", response_model=list[AgentRead])
async def list_agents(
    agents: Read, icons: Icons, skip: SkipQuery = 0, limit: LimitQuery = 1000
) -> Sequence[Agent]:
    """List the agents the caller may read, newest first."""
    return await icons.on_all(await agents.page(skip=skip, limit=limit))


@router.get("/{namespace}/{name}", response_model=AgentRead)
async def get_agent(namespace: str, name: str, agents: Read, icons: Icons) -> Agent:
    """Get one agent."""
    return await icons.on(await agents.get(namespace, name))


@router.put("/{namespace}/{name}", response_model=AgentRead)
async def update_agent(
    namespace: str, name: str, data: AgentUpdate, agents: Update, icons: Icons
) -> Agent:
    """Change an agent; fields left out stay as they are."""
    return await icons.on(await agents.update(namespace, name, data))


@router.delete("/{namespace}/{name}", status_code=204)
async def delete_agent(namespace: str, name: str, agents: Delete) -> None:
    """Delete an agent. Its chats stay readable; its name is free again."""
    await agents.delete(namespace, name)
