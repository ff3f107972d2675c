"""Declaration of budgets."""

from sinas.resources.base import Resource
from sinas.resources.budgets.endpoints import router

RESOURCE = Resource(name="budget", management=router)
