"""Declaration of secrets."""

from sinas.resources.base import Resource
from sinas.resources.secrets.endpoints import router

RESOURCE = Resource(name="secret", management=router)
