"""Declaration of the executions slice."""

from sinas.resources.base import Resource
from sinas.resources.executions import runtime
from sinas.resources.executions.cancelling import abandon_calls, watch_cancels
from sinas.resources.executions.jobs import SWEEPS, execute

RESOURCE = Resource(
    name="execution",
    runtime=runtime.router,
    jobs=(execute,),
    sweeps=SWEEPS,
    watch=watch_cancels,
    abandon=abandon_calls,
)
