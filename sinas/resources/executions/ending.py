"""From what the sandbox reports to what is stored: pure, whatever user code did."""

from dataclasses import dataclass
from typing import Any, assert_never

from sinas.kit.json_text import NotJsonError, encode, storable
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.kit.jsonschema import compile_schema
from sinas.models import ExecutionStatus
from sinas.resources.artifacts.service import NewArtifact
from sinas.resources.executions.events import TIMEOUT_ERROR
from sinas.resources.executions.retrying import Again
from sinas.sandbox.base import Captured, Crashed, Outcome, OutOfMemory, Raised, Returned, TimedOut

_CHEAP_BYTES = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended, fit to be stored.

    Attributes:
        output: The return value, null unless it completed.
        output_json: The same as JSON text.
        error_type: A class of errors: the name of an exception, or a word for what else went
            wrong; None if nothing did.
        duration_ms: Time inside the sandbox, null when it never got there.
        again: Whether another attempt could end better.
        artifacts: Files to be stored with it.
    """

    status: ExecutionStatus
    output: JsonValue = None
    output_json: bytes = b"null"
    error: str | None = None
    error_type: str | None = None
    traceback: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    duration_ms: int | None = None
    again: Again = Again.NEVER
    artifacts: tuple[NewArtifact, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The values `finish` writes."""
        return {
            "status": self.status,
            "output": self.output,
            "error": self.error,
            "traceback": self.traceback,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "duration_ms": self.duration_ms,
        }


def failed(error: str, again: Again = Again.NEVER) -> Ending:
    """An end without a result of a run."""
    return Ending(
        status=ExecutionStatus.FAILED, error=storable(error), error_type="not_run", again=again
    )


def ending_of(outcome: Outcome, output_schema: JsonObject) -> Ending:
    """The terminal state an outcome leads to. A return value must satisfy the output schema."""
    match outcome:
        case Returned():
            return _returned(outcome, output_schema)
        case Raised():
            traceback = storable(outcome.traceback) or None
            exception = outcome.error.partition(":")[0]
            return _interrupted(outcome, exception, outcome.error, traceback=traceback)
        case TimedOut():
            return _interrupted(outcome, "timeout", f"{TIMEOUT_ERROR}{outcome.timeout_seconds:g}s")
        case OutOfMemory():
            return _interrupted(
                outcome,
                "out_of_memory",
                f"The call needed more than its {outcome.limit_mb} MiB of memory.",
            )
        case Crashed():
            return _interrupted(outcome, "crashed", outcome.reason)
        case _:
            assert_never(outcome)


def is_cheap(outcome: Outcome, output_schema: JsonObject) -> bool:
    """Whether `ending_of` takes less than the hop to a thread that it would need otherwise."""
    size = len(outcome.stdout) + len(outcome.stderr)
    if isinstance(outcome, Returned):
        size += outcome.answer_bytes
        if compile_schema(output_schema).is_costly:
            return False
    return size <= _CHEAP_BYTES


def _returned(outcome: Returned, output_schema: JsonObject) -> Ending:
    try:
        text = encode(outcome.value)
    except NotJsonError as error:
        return _failed(outcome, "invalid_result", f"The result {error}.")
    if problem := _problem(outcome.value, output_schema):
        return _failed(outcome, "invalid_result", problem)
    return _ending(outcome, ExecutionStatus.COMPLETED, output=outcome.value, output_json=text)


def _problem(value: JsonValue, schema: JsonObject) -> str | None:
    """Why the value is not what the function promises, or None."""
    compiled = compile_schema(schema)
    # Clients get the value as it was returned; coercion only decides whether it is acceptable.
    coerced = compiled.coerce(value) if isinstance(value, dict) else value
    violations = compiled.violations(coerced)
    if not violations:
        return None
    first = violations[0]
    where = ".".join(str(part) for part in first.path)
    return f"Output validation failed: {first.message}" + (f" (at {where})" if where else "")


def _ending(outcome: Captured, status: ExecutionStatus, **rest: Any) -> Ending:
    return Ending(
        status=status,
        stdout=storable(outcome.stdout) or None,
        stderr=storable(outcome.stderr) or None,
        duration_ms=outcome.duration_ms,
        **rest,
    )


def _failed(outcome: Captured, error_type: str, error: str, **rest: Any) -> Ending:
    return _ending(
        outcome, ExecutionStatus.FAILED, error=storable(error), error_type=error_type, **rest
    )


def _interrupted(outcome: Captured, error_type: str, error: str, **rest: Any) -> Ending:
    """The code began and did not come to its end."""
    return _failed(outcome, error_type, error, again=Again.IF_IDEMPOTENT, **rest)
