"""Rows of agents."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, or_, select, update
from typing_extensions import override

from sinas.crud.references import matching
from sinas.crud.repository import Repository
from sinas.models import Agent, LlmProvider

# Names what is locked, for all processes; the value has no other meaning.
_DEFAULT_LOCK = 7_202_611_221


class AgentRepository(Repository[Agent]):
    """Agents that were not deleted."""

    model = Agent
    resource = "agents"

    @override
    def visible(self, action: str = "read") -> Select[Any]:
        """Rows the caller may do `action` on."""
        return super().visible(action).where(Agent.deleted_at.is_(None))

    async def default(self) -> Agent | None:
        """The default agent, whether or not the caller may see it."""
        statement = self.visible_to_system().where(
            Agent.is_default, Agent.is_active, Agent.deleted_at.is_(None)
        )
        return await self.session.scalar(statement)

    async def by_name_for_chat(self, namespace: str, name: str) -> Agent | None:
        """An active agent by name, whether or not the caller may chat with it."""
        statement = self.visible_to_system().where(
            Agent.namespace == namespace,
            Agent.name == name,
            Agent.is_active,
            Agent.deleted_at.is_(None),
        )
        return await self.session.scalar(statement)

    async def active_matching(self, references: Sequence[str]) -> Sequence[Agent]:
        """Active agents the caller may read, by `ns/name`, `ns/*`, `*/*` or id."""
        ids = [UUID(one) for one in references if _is_id(one)]
        names = [one for one in references if not _is_id(one)]
        statement = (
            self.visible()
            .where(Agent.is_active, or_(matching(Agent, names), Agent.id.in_(ids)))
            .order_by(Agent.namespace, Agent.name)
        )
        return (await self.session.scalars(statement)).all()

    async def clear_default(self) -> None:
        """Take the default mark from every agent, one caller after the other until they commit."""
        await self.session.execute(select(func.pg_advisory_xact_lock(_DEFAULT_LOCK)))
        await self.session.execute(update(Agent).where(Agent.is_default).values(is_default=False))

    async def provider_exists(self, provider_id: UUID) -> bool:
        """Whether a provider can be named by an agent."""
        statement = select(LlmProvider.id).where(
            LlmProvider.id == provider_id, LlmProvider.deleted_at.is_(None)
        )
        return (await self.session.scalar(statement)) is not None


def _is_id(reference: str) -> bool:
    try:
        UUID(reference)
    except ValueError:
        return False
    return True
