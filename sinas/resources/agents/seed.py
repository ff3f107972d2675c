"""The agent a new installation starts with."""

from sqlalchemy import select

from sinas.db.unit import Unit
from sinas.models import Agent, User

_PROMPT = "You are a helpful assistant. Answer briefly and say so when you do not know."


async def seed_default_agent(unit: Unit, owner_email: str) -> None:
    """Create `default/default` once. Deleted or changed, it stays as its owner left it."""
    session = unit.session
    known = select(Agent.id).where(Agent.namespace == "default", Agent.name == "default")
    if await session.scalar(known) is not None:
        return
    owner_id = await session.scalar(select(User.id).where(User.email == owner_email))
    default = await session.scalar(
        select(Agent.id).where(Agent.is_default, Agent.deleted_at.is_(None))
    )
    session.add(
        Agent(
            user_id=owner_id,
            namespace="default",
            name="default",
            description="Answers with the default LLM provider. Change it or make your own.",
            system_prompt=_PROMPT,
            is_default=default is None,
        )
    )
