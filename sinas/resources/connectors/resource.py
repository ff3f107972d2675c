"""Declaration of connectors."""

from sinas.resources.base import Resource
from sinas.resources.connectors import endpoints
from sinas.resources.connectors.tools import ConnectorTools

RESOURCE = Resource(name="connector", management=endpoints.router, tools=ConnectorTools)
