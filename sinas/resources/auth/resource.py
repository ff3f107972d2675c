"""What the platform knows of signing in."""

from sinas.resources.auth.jobs import FORGET_EXPIRED
from sinas.resources.auth.runtime import router
from sinas.resources.base import Resource

RESOURCE = Resource(name="auth", runtime=router, sweeps=(FORGET_EXPIRED,))
