"""Declaration of batches."""

from sinas.resources.base import Resource
from sinas.resources.batches.callbacks import SWEEPS
from sinas.resources.batches.runtime import router

RESOURCE = Resource(name="batch", runtime=router, sweeps=SWEEPS)
