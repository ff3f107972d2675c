"""Declaration of the executions slice."""

from sinas.resources.base import Resource
from sinas.resources.executions import runtime
from sinas.resources.executions.cancelling import abandon_calls, watch_cancels
from sinas.resources.executions.jobs import SWEEPS, execute
from sinas.resources.executions.tools import ExecutionTools

RESOURCE = Resource(
    name="execution",
    runtime=runtime.router,
    tools=ExecutionTools,
    jobs=(execute,),
    sweeps=SWEEPS,
    watch=watch_cancels,
    abandon=abandon_calls,
)
