"""Declaration of sandboxes."""

from sinas.resources.base import Resource
from sinas.resources.sandboxes.commands import COMMANDS
from sinas.resources.sandboxes.endpoints import router

RESOURCE = Resource(name="sandbox", management=router, commands=COMMANDS)
