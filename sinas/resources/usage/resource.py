"""Declaration of usage."""

from sinas.resources.base import Resource
from sinas.resources.usage.endpoints import router as management
from sinas.resources.usage.runtime import router as runtime

RESOURCE = Resource(name="usage", management=management, runtime=runtime)
