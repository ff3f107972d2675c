"""Declaration of collections."""

from sinas.resources.base import Resource
from sinas.resources.collections import endpoints, runtime

RESOURCE = Resource(name="collection", management=endpoints.router, runtime=runtime.router)
