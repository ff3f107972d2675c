"""Declaration of the view of messages."""

from sinas.resources.base import Resource
from sinas.resources.messages.endpoints import router

RESOURCE = Resource(name="message", management=router)
