"""Declaration of skills."""

from sinas.resources.base import Resource
from sinas.resources.skills import endpoints, runtime
from sinas.resources.skills.preloaded import PreloadedSkills
from sinas.resources.skills.tools import SkillTools

RESOURCE = Resource(
    name="skill",
    management=endpoints.router,
    runtime=runtime.router,
    tools=SkillTools,
    instructions=PreloadedSkills,
)
