"""Declaration of files."""

from fastapi import APIRouter

from sinas.resources.base import Resource
from sinas.resources.files import index_jobs, runtime, search_runtime
from sinas.resources.files.jobs import SWEEPS
from sinas.resources.files.tools import FileTools

# Those without a caller first: their addresses would be collections otherwise.
_runtime = APIRouter()
_runtime.include_router(runtime.open_router)
_runtime.include_router(runtime.router)
_runtime.include_router(search_runtime.router)

RESOURCE = Resource(
    name="file",
    runtime=_runtime,
    tools=FileTools,
    jobs=(index_jobs.index,),
    sweeps=(*SWEEPS, *index_jobs.SWEEPS),
)
