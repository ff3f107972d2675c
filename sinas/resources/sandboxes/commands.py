"""What a function worker does with its sandboxes when an operator asks."""

from dataclasses import asdict
from typing import cast

from sinas.context import WorkerContext
from sinas.errors import NotFoundError
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.queue.commands import command
from sinas.sandbox.base import Sandbox


def _sandbox(worker: WorkerContext) -> Sandbox:
    assert worker.sandbox is not None, "only function workers serve commands"
    return worker.sandbox


@command("sandboxes.describe")
async def describe(worker: WorkerContext, arguments: JsonObject) -> JsonValue:
    """`status`; with `usage` also what each sandbox takes of the machine, by its name."""
    sandbox = _sandbox(worker)
    usage = await sandbox.usage() if arguments["usage"] else {}
    return {
        "status": asdict(sandbox.status()),
        "usage": {name: asdict(each) for name, each in usage.items()},
    }


@command("sandboxes.scale")
async def scale(worker: WorkerContext, arguments: JsonObject) -> JsonValue:
    """Keep `target` sandboxes ready."""
    return asdict(await _sandbox(worker).scale_sandboxes(cast("int", arguments["target"])))


@command("sandboxes.scale_shared")
async def scale_shared(worker: WorkerContext, arguments: JsonObject) -> JsonValue:
    """Have `target` sandboxes take shared calls."""
    return asdict(await _sandbox(worker).scale_shared(cast("int", arguments["target"])))


@command("sandboxes.reload")
async def reload(worker: WorkerContext, _: JsonObject) -> JsonValue:
    """Replace every sandbox."""
    return asdict(await _sandbox(worker).reload_sandboxes())


@command("sandboxes.reload_shared")
async def reload_shared(worker: WorkerContext, _: JsonObject) -> JsonValue:
    """Replace every sandbox of the shared pool."""
    return asdict(await _sandbox(worker).reload_shared())


@command("sandboxes.replace")
async def replace(worker: WorkerContext, arguments: JsonObject) -> JsonValue:
    """End the sandbox called `name`, with what runs in it, and start another."""
    name = cast("str", arguments["name"])
    if not _sandbox(worker).replace(name):
        raise NotFoundError(f"Container '{name}' not found")
    return None


COMMANDS = (describe, scale, scale_shared, reload, reload_shared, replace)
