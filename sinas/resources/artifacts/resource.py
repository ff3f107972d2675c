"""Declaration of artifacts."""

from sinas.resources.artifacts.runtime import router
from sinas.resources.base import Resource

RESOURCE = Resource(name="artifact", runtime=router)
