"""Declaration of database connections."""

from sinas.resources.base import Resource
from sinas.resources.database_connections.endpoints import router
from sinas.resources.database_connections.tools import IntrospectionTools

RESOURCE = Resource(name="database_connection", management=router, tools=IntrospectionTools)
