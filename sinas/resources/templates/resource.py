"""Declaration of templates."""

from sinas.resources.base import Resource
from sinas.resources.templates import endpoints, runtime

RESOURCE = Resource(name="template", management=endpoints.router, runtime=runtime.router)
