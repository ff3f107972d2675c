"""What the platform knows of API keys."""

from sinas.resources.api_keys.endpoints import router
from sinas.resources.base import Resource

RESOURCE = Resource(name="api_key", management=router)
