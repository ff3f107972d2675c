"""Declaration of agents."""

from sinas.resources.agents.endpoints import router as management
from sinas.resources.agents.runtime import router as runtime
from sinas.resources.base import Resource

RESOURCE = Resource(name="agent", management=management, runtime=runtime)
