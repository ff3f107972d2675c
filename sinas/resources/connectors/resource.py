"""Declaration of connectors."""

from sinas.resources.base import Resource
from sinas.resources.connectors import endpoints

RESOURCE = Resource(name="connector", management=endpoints.router)
