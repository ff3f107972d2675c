"""Requests and answers as they cross into a sandbox, and what their ends mean.

The protocol itself (control lines, frames, versions) is `runner/protocol.py`, because the
runner must not import the platform.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from sinas.sandbox.base import (
    Crashed,
    Invocation,
    Outcome,
    OutOfMemory,
    Profile,
    Raised,
    Returned,
    TimedOut,
    WrittenFile,
)
from sinas.sandbox.runner import protocol

# Room for the answer around the value: the error and the traceback are bounded by the runner.
_ANSWER_SLACK_BYTES = 1_048_576
_ANY_FILE_BYTES = 2**53

_SIGNALS = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is applied to every call of one sandbox.

    Attributes:
        result_bytes: Largest JSON result.
        output_bytes: How much of stdout, and of stderr, is kept.
        memory_mb: Memory of the sandbox, for messages.
        memory_error_is_limit: Whether a MemoryError means that `memory_mb` was reached, as it
            does where the limit is one of address space.
    """

    result_bytes: int
    output_bytes: int
    memory_mb: int
    memory_error_is_limit: bool

    def answer_bytes(self, invocation: Invocation) -> int:
        """Largest answer frame that an honest runner sends."""
        files = protocol.MAX_FILES_BYTES if invocation.kind == "code" else 0
        return self.result_bytes + _ANSWER_SLACK_BYTES + files

    def of(self, profile: Profile) -> "Limits":
        """The same for sandboxes of another kind."""
        return replace(self, memory_mb=profile.memory_mb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The warm parent's word on how a call ended.

    Attributes:
        cause: One of the causes in `runner.protocol`.
        code: Exit code, or signal number where the cause is a signal.
        oom: Whether the kernel killed for memory during the call.
        clean: Whether nothing of the call is left in the sandbox.
    """

    cause: str
    code: int
    oom: bool
    clean: bool

    @classmethod
    def parse(cls, message: dict[str, Any]) -> "Ended":
        """Read an `ended` line."""
        return cls(
            cause=str(message["cause"]),
            code=int(message["code"]),
            oom=bool(message["oom"]),
            clean=bool(message["clean"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What every outcome carries besides its kind."""

    stdout: str
    stderr: str
    duration_ms: int


def encode_request(invocation: Invocation, limits: Limits) -> bytes:
    """The request frame of a call."""
    return protocol.frame(
        json.dumps(
            {
                "v": protocol.VERSION,
                "kind": invocation.kind,
                "environment": invocation.environment,
                "namespace": invocation.namespace,
                "name": invocation.name,
                "code": invocation.code,
                "input": invocation.input,
                "context": invocation.context,
                "max_result_bytes": limits.result_bytes,
            }
        ).encode()
    )


def outcome_of_answer(answer: bytes, output: Output, limits: Limits) -> Outcome:
    """The outcome of a call that answered. The answer is untrusted: user code ran beside it."""
    common: dict[str, Any] = {
        "stdout": output.stdout,
        "stderr": output.stderr,
        "duration_ms": output.duration_ms,
    }
    try:
        # JSON has no newline of its own.
        head, _, contents = answer.partition(b"\n")
        message = json.loads(head)
        kind, deprecation = message["kind"], message["deprecation"]
        common["deprecation"] = None if deprecation is None else str(deprecation)
        if kind == "returned":
            files = _files(message.get("files", []), contents)
            return Returned(value=message["value"], answer_bytes=len(head), files=files, **common)
        if kind == "raised":
            if message["type"] == "MemoryError" and limits.memory_error_is_limit:
                return OutOfMemory(limit_mb=limits.memory_mb, **common)
            return Raised(
                error=str(message["error"]), traceback=str(message["traceback"]), **common
            )
    except (ValueError, KeyError, TypeError, RecursionError):
        common["deprecation"] = None
    return Crashed(reason="The function's process sent an answer that makes no sense.", **common)


def _files(described: list[Any], contents: bytes) -> tuple[WrittenFile, ...]:
    """The files behind an answer.

    Raises:
        ValueError: They are not what the answer says of them, or more than may come along.
    """
    files, position = [], 0
    for name, size, kept in described:
        content = contents[position : position + size] if kept is True else None
        limit = _ANY_FILE_BYTES if content is None else protocol.MAX_FILE_BYTES
        if not 0 <= size <= limit or (content is not None and len(content) != size):
            raise ValueError("files and their sizes do not agree")
        position += len(content or b"")
        files.append(WrittenFile(name=str(name), size_bytes=int(size), content=content))
    kept_files = sum(file.content is not None for file in files)
    if kept_files > protocol.MAX_FILES or len(files) > protocol.MAX_FILE_NAMES:
        raise ValueError("too many files")
    return tuple(files)


def outcome_of_end(ended: Ended, timeout_seconds: float, output: Output, limits: Limits) -> Outcome:
    """The outcome of a call that ended without an answer."""
    common: dict[str, Any] = {
        "stdout": output.stdout,
        "stderr": output.stderr,
        "duration_ms": output.duration_ms,
    }
    if ended.cause == protocol.TIMED_OUT:
        return TimedOut(timeout_seconds=timeout_seconds, **common)
    no_memory = ended.cause == protocol.EXITED and ended.code == protocol.EXIT_NO_MEMORY
    if ended.oom or no_memory:
        return OutOfMemory(limit_mb=limits.memory_mb, **common)
    if ended.cause == protocol.SIGNALLED:
        name = _SIGNALS.get(ended.code, f"signal {ended.code}")
        return Crashed(reason=f"The function's process was killed by {name}.", **common)
    if ended.cause == protocol.NO_PROCESS:
        return Crashed(reason="The sandbox has no room for another process.", **common)
    if ended.cause == protocol.KILLED:
        return Crashed(reason="The call was cancelled.", **common)
    return Crashed(
        reason=f"The function's process exited with code {ended.code} without a result.", **common
    )


def decode_output(data: bytes, limit: int) -> str:
    """What was printed, as text; `data` may be one byte longer than `limit` to show the cut."""
    text = data[:limit].decode("utf-8", errors="replace")
    if len(data) <= limit:
        return text
    return f"{text}\n[output cut at {limit} bytes]"
