"""Declaration of the queue."""

from sinas.resources.base import Resource
from sinas.resources.queue.endpoints import router

RESOURCE = Resource(name="queue", management=router)
