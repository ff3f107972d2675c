"""Declaration of queries."""

from sinas.resources.base import Resource
from sinas.resources.queries import endpoints, runtime
from sinas.resources.queries.tools import QueryTools

RESOURCE = Resource(
    name="query", management=endpoints.router, runtime=runtime.router, tools=QueryTools
)
