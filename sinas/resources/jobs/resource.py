"""Declaration of the jobs slice."""

from sinas.resources.base import Resource
from sinas.resources.jobs import runtime

RESOURCE = Resource(name="job", runtime=runtime.router)
