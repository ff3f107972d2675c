"""Declaration of schedules."""

from sinas.resources.base import Resource
from sinas.resources.schedules.endpoints import router
from sinas.resources.schedules.jobs import SWEEPS

RESOURCE = Resource(name="schedule", management=router, sweeps=SWEEPS)
