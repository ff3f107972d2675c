"""Rules of agents."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from typing_extensions import override

from sinas.crud.service import CrudService
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.templates import TemplateError, check_template
from sinas.models import Agent
from sinas.resources.agents.repository import AgentRepository
from sinas.resources.agents.schemas import AgentCreate, AgentUpdate


class AgentService(CrudService[Agent, AgentCreate, AgentUpdate]):
    """Operations on agents, for one caller."""

    repository = AgentRepository
    noun = "agent"
    rows: AgentRepository

    async def discover(self, *, skip: int, limit: int) -> Sequence[Agent]:
        """Active agents the caller may read, newest first."""
        statement = self.rows.visible().where(Agent.is_active)
        newest = statement.order_by(Agent.created_at.desc(), Agent.id.desc())
        return await self.rows.page(newest, skip=skip, limit=limit)

    async def chattable(self) -> Sequence[Agent]:
        """Active agents the caller may chat with, by name."""
        statement = self.rows.visible("chat").where(Agent.is_active)
        found = await self.unit.session.scalars(statement.order_by(Agent.namespace, Agent.name))
        # A grant on own agents only, which the statement knows, is none to chat.
        return [agent for agent in found if self._may_chat(agent.namespace, agent.name)]

    async def default_for_chat(self) -> Agent:
        """The default agent, to chat with.

        Raises:
            NotFoundError: None is marked as default.
            ForbiddenError: No chat grant.
        """
        agent = await self.rows.default()
        if agent is None:
            raise NotFoundError("No default agent configured")
        if not self._may_chat(agent.namespace, agent.name):
            raise ForbiddenError("Not authorized to chat with the default agent.")
        return agent

    async def usable(self, references: Sequence[str]) -> Sequence[Agent]:
        """Active agents of these references that the caller may read and chat with, by name."""
        return [
            agent
            for agent in await self.rows.active_matching(references)
            if self.principal.can_on("agents", agent.namespace, agent.name, "chat", own=False)
        ]

    async def default(self) -> Agent:
        """The default agent.

        Raises:
            NotFoundError: None is marked as default.
            ForbiddenError: The caller may not read it.
        """
        agent = await self.rows.default()
        if agent is None:
            raise NotFoundError("No default agent configured")
        is_own = agent.user_id == self.principal.user_id
        if not self.principal.can_on("agents", agent.namespace, agent.name, "read", own=is_own):
            raise ForbiddenError("Not authorized to read the default agent.")
        return agent

    async def for_chat(self, namespace: str, name: str) -> Agent:
        """An active agent the caller may chat with.

        Raises:
            NotFoundError: Absent or inactive.
            ForbiddenError: No chat grant.
        """
        self.require_chat(namespace, name)
        agent = await self.rows.by_name_for_chat(namespace, name)
        if agent is None:
            raise self.missing(namespace, name)
        return agent

    def require_chat(self, namespace: str, name: str) -> None:
        """Raise unless the caller may chat with agents of that name.

        Asked before the agent is looked up, so that the answer tells nothing about it.
        """
        if not self._may_chat(namespace, name):
            raise ForbiddenError(f"Not authorized to chat with agent '{namespace}/{name}'")

    def _may_chat(self, namespace: str, name: str) -> bool:
        return self.principal.can_on("agents", namespace, name, "chat", own=False)

    @override
    async def check(self, values: dict[str, Any], row: Agent | None) -> None:
        namespace = values.get("namespace", row.namespace if row else "")
        name = values.get("name", row.name if row else "")
        is_renamed = row is not None and (namespace, name) != (row.namespace, row.name)
        if is_renamed and not self.principal.can_create("agents", namespace, name):
            raise ForbiddenError(f"Not authorized to name an agent '{namespace}/{name}'.")
        provider_id = values.get("llm_provider_id")
        if provider_id is not None and not await self.rows.provider_exists(provider_id):
            raise _rejected("llm_provider_id", f"LLM provider '{provider_id}' not found")
        await asyncio.to_thread(_check_templates, values)
        if values.get("is_default") and not (row is not None and row.is_default):
            self._require_every_agent()
            await self.rows.clear_default()

    def _require_every_agent(self) -> None:
        """Whoever names no agent talks to the default one: that is for all to say."""
        if not self.principal.can_one_of("sinas.agents.update:all", "sinas.agents/*/*.update:all"):
            raise ForbiddenError(
                "Not authorized to choose the default agent: this needs "
                "'sinas.agents/*/*.update:all'."
            )

    @override
    async def delete(self, namespace: str, name: str) -> None:
        row = await self.changeable(namespace, name, "delete")
        row.deleted_at = func.now()
        row.is_active = False
        row.is_default = False


def _check_templates(values: dict[str, Any]) -> None:
    """Find a broken template when it is saved, not when somebody chats."""
    texts = [("system_prompt", values.get("system_prompt"))]
    texts += [
        (f"status_templates.{key}", text)
        for key, text in (values.get("status_templates") or {}).items()
    ]
    texts += [
        (f"initial_messages.{n}.content", message["content"])
        for n, message in enumerate(values.get("initial_messages") or [])
    ]
    for field, text in texts:
        if not text:
            continue
        try:
            check_template(text)
        except TemplateError as error:
            raise _rejected(field, error.message) from error


def _rejected(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", [FieldError(field, message)])
