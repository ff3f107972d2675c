"""Declaration of stores and states."""

from fastapi import APIRouter

from sinas.resources.base import Resource
from sinas.resources.stores import endpoints, legacy_runtime, runtime
from sinas.resources.stores.jobs import SWEEPS
from sinas.resources.stores.stored_context import StoredContext
from sinas.resources.stores.tools import StoreTools

_runtime = APIRouter()
_runtime.include_router(runtime.router)
_runtime.include_router(legacy_runtime.router)

RESOURCE = Resource(
    name="store",
    management=endpoints.router,
    runtime=_runtime,
    tools=StoreTools,
    instructions=StoredContext,
    sweeps=SWEEPS,
)
