"""Declaration of webhooks."""

from sinas.resources.base import Resource
from sinas.resources.webhooks import endpoints, runtime
from sinas.resources.webhooks.jobs import SWEEPS

RESOURCE = Resource(
    name="webhook", management=endpoints.router, runtime=runtime.router, sweeps=SWEEPS
)
