"""What a function worker does for packages."""

from dataclasses import asdict

from sinas.context import WorkerContext
from sinas.errors import UnavailableError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.queue.commands import command


@command("dependencies.build")
async def build(worker: WorkerContext, arguments: JsonObject) -> JsonValue:
    """Resolve and install `requirements` on this worker's disk: what came out, to be recorded."""
    requirements = arguments["requirements"]
    assert isinstance(requirements, list)
    if worker.environments is None:
        raise UnavailableError("This worker has no sandbox.")
    return asdict(await worker.environments.build([str(one) for one in requirements]))
