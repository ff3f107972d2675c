"""Skills that are always in an agent's system message."""

from sqlalchemy.ext.asyncio import AsyncSession

from sinas.context import AppContext
from sinas.models import Agent
from sinas.resources.skills.enabled import EnabledSkills
from sinas.resources.skills.repository import UsableSkill, usable
from sinas.tools.base import ToolContext

_HEADING = "# Preloaded Skills"
_RULE = "\n\n---\n\n"


class PreloadedSkills:
    """The section with the text of every skill that the agent preloads."""

    def __init__(self, context: AppContext) -> None:
        """As every provider is made; what it needs comes with each turn."""

    async def instructions(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> str | None:
        """The section, in the order of `enabled_skills`; None, without a query, for none."""
        enabled = EnabledSkills.of(agent)
        references = enabled.some(preload=True)
        if not references:
            return None
        skills = await usable(session, agent, context.principal, references, with_content=True)
        placed = [(_place(enabled, skill), skill) for skill in skills]
        chosen = sorted(
            ((place, skill) for place, skill in placed if place is not None),
            key=lambda each: each[0],
        )
        if not chosen:
            return None
        parts = [f"# Skill: {skill.reference}\n\n{skill.content}" for _, skill in chosen]
        return f"{_HEADING}\n\n{_RULE.join(parts)}"


def _place(enabled: EnabledSkills, skill: UsableSkill) -> int | None:
    return enabled.place(skill.namespace, skill.name, preload=True)
