"""Declaration of packages."""

from sinas.resources.base import Resource
from sinas.resources.dependencies.commands import build
from sinas.resources.dependencies.endpoints import router

RESOURCE = Resource(name="dependency", management=router, commands=(build,))
