"""Declaration of the system."""

from sinas.resources.base import Resource
from sinas.resources.system.endpoints import router

RESOURCE = Resource(name="system", management=router)
