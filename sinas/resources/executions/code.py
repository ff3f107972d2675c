"""Executions of code that is no function: what stands for one, and how they end."""

from dataclasses import replace

from sinas.kit.json_types import JsonObject
from sinas.models import Function
from sinas.resources.artifacts.service import NewArtifact, named
from sinas.resources.executions.attempts import Claimed
from sinas.resources.executions.ending import Ending, ending_of
from sinas.sandbox.base import Outcome, Returned
from sinas.settings import FunctionSettings

_NOT_KEPT = "too large, or one too many, to be kept"


def stand_in(name: tuple[str, str], limits: FunctionSettings) -> Function:
    """What an execution of code has in place of a stored function."""
    return Function(
        namespace=name[0],
        name=name[1],
        input_schema={},
        timeout=limits.code_execution_timeout,
        shared_pool=False,
        idempotent=False,
    )


def ending_of_code(row: Claimed, outcome: Outcome) -> Ending:
    """As `ending_of`: the output is an object of `result` and, if there are any, `files`.

    Files that are kept are to be stored with the end; the output only names them.
    """
    if not isinstance(outcome, Returned):
        return ending_of(outcome, {})
    artifacts = []
    described: list[JsonObject] = []
    for file in outcome.files:
        name = named(file.name)
        if file.content is None or row.chat_id is None:
            described.append({"name": name, "size_bytes": file.size_bytes, "error": _NOT_KEPT})
            continue
        artifact = NewArtifact(
            user_id=row.user_id,
            chat_id=row.chat_id,
            execution_id=row.id,
            name=name,
            content=file.content,
        )
        artifacts.append(artifact)
        described.append(artifact.reference)
    output: JsonObject = {"result": outcome.value}
    if described:
        output["files"] = [*described]
    ending = ending_of(replace(outcome, value=output, files=()), {})
    return replace(ending, artifacts=tuple(artifacts)) if ending.output else ending
