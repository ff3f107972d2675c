"""Skills as tools: the model loads the text when it needs it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.models import Agent
from sinas.resources.skills.enabled import EnabledSkills
from sinas.resources.skills.repository import UsableSkill, content_of, usable
from sinas.tools.base import Call, Failed, Ok, Tool, ToolContext, ToolResult
from sinas.tools.names import fitting


class SkillTools:
    """Offers the skills an agent enables and does not preload, each as a tool of its own."""

    kind = "skill"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """One tool for each skill, by one query where the agent has any."""
        enabled = EnabledSkills.of(agent)
        references = enabled.some(preload=False)
        if not references:
            return ()
        tools: dict[str, Tool] = {}
        for skill in await usable(
            session, agent, context.principal, references, with_content=False
        ):
            if enabled.place(skill.namespace, skill.name, preload=False) is not None:
                plain = f"get_skill_{skill.namespace}_{skill.name}".replace("-", "_")
                name = fitting(plain, skill.reference, taken=tools)
                tools[name] = _tool(name, skill, _Run(self._context, skill))
        return tuple(tools.values())


def _tool(name: str, skill: UsableSkill, run: "_Run") -> Tool:
    return Tool(
        name=name,
        description=skill.description,
        parameters={"type": "object", "properties": {}},
        run=run,
        status_key=f"skill:{skill.reference}",
        status=f"Loading skill {skill.name.replace('_', ' ').replace('-', ' ')}",
        resource=(skill.namespace, skill.name),
        resumable=True,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    context: AppContext
    skill: UsableSkill

    async def __call__(self, call: Call) -> ToolResult:  # noqa: ARG002 - it takes nothing
        async with self.context.statement_sessions() as session:
            content = await content_of(session, self.skill.id)
        if content is None:
            return Failed("Skill not found", f"The skill '{self.skill.reference}' is gone.")
        return Ok(content)
