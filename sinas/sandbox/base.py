"""The sandbox protocol: run one call of user code somewhere that is not this process."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from sinas.kit.json_types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One call.

    Attributes:
        execution_id: Names the call in logs and in the sandbox's own messages.
        namespace: Namespace of the function, for its deprecated entry point and messages.
        name: Name of the function; a callable of this name is the fallback entry point.
        code: Python source of the module that defines `handler(input_data, context)`.
        input: First argument of the handler.
        context: Second argument; `access_token` in it is a secret and is never logged.
        timeout_seconds: Wall-clock limit of the call, without the time `input()` waits.
        kind: `function` calls the entry point; `code` runs the module and takes the value of
            its last expression and the files it wrote.
        environment: Id of the built environment whose packages can be imported; None for none.
        shared: Whether the code is trusted to run in the shared pool.
        nested: Whether user code waits for this call: it then gets a sandbox although as many
            as calls from outside may use are taken.
    """

    execution_id: str
    namespace: str
    name: str
    code: str = field(repr=False)
    input: JsonValue = field(repr=False)
    context: JsonObject = field(repr=False)
    timeout_seconds: float
    kind: Literal["function", "code"] = "function"
    environment: str | None = None
    shared: bool = False
    nested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What `input()` returns.

    Attributes:
        value: The reply.
        access_token: Stands in the call's context from now on; None leaves it as it is.
    """

    value: str
    access_token: str | None = field(default=None, repr=False)


# Answers what `input(prompt)` asks; raising TimeoutError makes `input()` raise it.
Ask: TypeAlias = Callable[[str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What every finished call leaves behind, whatever its end.

    Attributes:
        stdout: What the code printed, cut at the configured size with a note.
        stderr: Likewise.
        duration_ms: Wall-clock time inside the sandbox.
        deprecation: Set when the entry point was a function named after its resource.
    """

    stdout: str = ""
    stderr: str = ""
    duration_ms: int = 0
    deprecation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A file that code of kind `code` left in its working directory, or below it.

    Attributes:
        name: Its path below that directory.
        size_bytes: How large it was.
        content: None where it was too large, or one too many, to come along.
    """

    name: str
    size_bytes: int
    content: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned(Captured):
    """The handler returned `value`, which took `answer_bytes` on the wire."""

    value: JsonValue
    answer_bytes: int = field(default=0, compare=False)
    files: tuple[WrittenFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised(Captured):
    """The handler, or loading its module, raised.

    Attributes:
        error: `TypeName: message`, one line.
        traceback: Frames of the user's code only, with their source lines.
    """

    error: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut(Captured):
    """The call was killed at its limit."""

    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory(Captured):
    """The kernel killed the call at the sandbox's memory limit."""

    limit_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed(Captured):
    """The process ended without an answer: os._exit, a signal, or a lost sandbox.

    `reason` is one sentence for the user.
    """

    reason: str


Outcome: TypeAlias = Returned | Raised | TimedOut | OutOfMemory | Crashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one kind of sandbox is made for.

    Attributes:
        kind: `sandbox` takes one call at a time, `shared` many.
        memory_mb: Memory of one sandbox, in MiB.
    """

    kind: Literal["sandbox", "shared"]
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMember:
    """One warm sandbox of a pool.

    Attributes:
        status: `idle` or `in_use`; a shared one is `running`, or `retiring` when it takes no
            new calls and ends after its last one.
        running: Calls in it now, paused ones included.
        executions: Calls it ever took.
    """

    name: str
    status: str
    running: int
    executions: int
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxStatus:
    """State of one worker's sandboxes.

    Attributes:
        backend: `docker` or `process`.
        boundary: What separates a call from the host, as one readable line.
        warnings: What this back end does not isolate, and why it was chosen.
        max_size: Most sandboxes at once, without the shared ones.
        min_idle: Idle sandboxes kept while others are busy.
        shared: The sandboxes of the shared pool.
    """

    backend: str
    boundary: str
    warnings: tuple[str, ...]
    idle: tuple[SandboxMember, ...]
    in_use: tuple[SandboxMember, ...]
    max_size: int
    min_idle: int
    shared: tuple[SandboxMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one sandbox takes of its machine.

    Attributes:
        cpu_percent: Of one CPU.
        memory_used_mb: In MiB, as are limits.
    """

    cpu_percent: float
    memory_used_mb: float
    memory_limit_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What a scaling did, in sandboxes of one worker."""

    previous: int
    current: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload did, in sandboxes of one worker.

    Attributes:
        replaced: Sandboxes that a new one stands for now.
        failed: Sandboxes that stayed because no new one started.
        errors: Why not, one sentence for each failure.
    """

    replaced: int
    failed: int
    errors: tuple[str, ...]


class Sandbox(Protocol):
    """One worker's sandboxes and its shared pool. Cancelling `run` kills the call it runs."""

    async def start(self) -> None:
        """Fill the pool to its minimum; the shared pool fills in the background.

        Raises:
            UnavailableError: The back end cannot work on this machine; the message says why.
        """
        ...

    async def run(self, invocation: Invocation, ask: Ask | None = None) -> Outcome:
        """Run one call in a process of its own that shares nothing with any other call.

        Faults of the user's code are outcomes, never exceptions. In the shared pool the code's
        `input(prompt)` calls `ask`, and its time limit stands still until that answers.

        Raises:
            UnavailableError: No sandbox became free within the acquire timeout, or the shared
                pool was scaled to nothing.
        """
        ...

    def status(self) -> SandboxStatus:
        """Describe both pools now."""
        ...

    async def usage(self) -> Mapping[str, Usage]:
        """Measure every sandbox of both pools, by name; takes about a second."""
        ...

    def replace(self, name: str) -> bool:
        """End one sandbox of either pool, with what runs in it; the pool makes another.

        False when there is none of that name.
        """
        ...

    async def scale_sandboxes(self, target: int) -> Scaled:
        """Keep `target` sandboxes ready from now on; returns when they are.

        Busy ones are never removed, so a smaller pool may be reached only later.

        Raises:
            InvalidInputError: `target` is negative or above the pool's maximum.
            UnavailableError: A new sandbox did not start.
        """
        ...

    async def reload_sandboxes(self) -> Reloaded:
        """Replace every sandbox: idle ones before this returns, busy ones after their call."""
        ...

    async def scale_shared(self, target: int) -> Scaled:
        """Have `target` sandboxes take shared calls from now on; returns when they do.

        One that is no longer wanted takes no new calls and ends after its last one, however
        long that waits for input.

        Raises:
            InvalidInputError: `target` is negative or above 10.
            UnavailableError: A new sandbox did not start.
        """
        ...

    async def reload_shared(self) -> Reloaded:
        """Have new sandboxes take new shared calls; old ones end after their last call."""
        ...

    async def aclose(self) -> None:
        """End every sandbox of this worker; leaves no process, container or socket behind."""
        ...
