"""What the platform knows of roles."""

from sinas.resources.base import Resource
from sinas.resources.roles.endpoints import router

RESOURCE = Resource(name="role", management=router)
