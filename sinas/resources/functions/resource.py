"""Declaration of the functions slice."""

from sinas.resources.base import Resource
from sinas.resources.functions import endpoints, runtime
from sinas.resources.functions.hooks import FunctionHooks
from sinas.resources.functions.tools import FunctionTools

RESOURCE = Resource(
    name="function",
    management=endpoints.router,
    runtime=runtime.router,
    tools=FunctionTools,
    hooks=FunctionHooks,
)
