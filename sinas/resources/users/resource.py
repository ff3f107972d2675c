"""What the platform knows of users."""

from sinas.resources.base import Resource
from sinas.resources.users.endpoints import router

RESOURCE = Resource(name="user", management=router)
