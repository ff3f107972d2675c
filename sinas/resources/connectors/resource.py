"""Declaration of connectors."""

from sinas.resources.base import Resource
from sinas.resources.connectors import endpoints, runtime
from sinas.resources.connectors.tools import ConnectorTools

RESOURCE = Resource(
    name="connector", management=endpoints.router, runtime=runtime.router, tools=ConnectorTools
)
