"""Declaration of database triggers."""

from sinas.resources.base import Resource
from sinas.resources.database_triggers.endpoints import router

RESOURCE = Resource(name="database_trigger", management=router)
