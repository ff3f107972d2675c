"""Spans as the rest of the platform sees them; without tracing every call does nothing.

Nothing here imports OpenTelemetry. `sinas.tracing.otel` has the implementation that records.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from typing_extensions import override

Value: TypeAlias = str | bool | int | float | Sequence[str]


class Kind(Enum):
    """What a span stands for; decides OpenTelemetry's span kind and the vendor's word for it."""

    REQUEST = "request"
    TURN = "turn"
    MODEL = "model"
    TOOL = "tool"
    DELEGATION = "delegation"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose work a span is. Spans below it in the same process inherit it.

    Attributes:
        thread: Id of the chat.
        user: Id of the user.
        agent: `namespace/name`.
    """

    thread: str | None = None
    user: str | None = None
    agent: str | None = None

    def under(self, above: "About") -> "About":
        """The same, with what it leaves open taken from `above`."""
        return replace(
            above, **{name: value for name in self.__slots__ if (value := getattr(self, name))}
        )


NOBODY = About()


class Span:
    """A piece of work that is not recorded: what there is when tracing is off.

    Attributes:
        is_recording: Whether attributes lead anywhere; ask before computing them.
        keeps_content: Whether texts of people and models are kept as well.
        traceparent: The W3C header value that makes others' spans its children; None for none.
        about: See `About`.
    """

    is_recording: bool = False
    keeps_content: bool = False
    traceparent: str | None = None
    about: About = NOBODY

    def name(self, name: str) -> None:
        """Replace the name it was started with."""

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add attributes; None leaves one out."""

    def belongs_to(self, about: About) -> None:
        """Say whose work it is, as far as that was not known at its start."""

    def content(self, *, given: str | None = None, answered: str | None = None) -> None:
        """Keep what went in and what came out, cut to length; nothing unless content is kept.

        For turns and models both are JSON arrays of messages (`sinas.tracing.content`).
        """

    def fail(self, error_type: str, message: str | None = None) -> None:
        """Mark it as failed.

        Args:
            error_type: A class of errors: a code, or the name of an exception. Never free text.
            message: Kept only where content is.
        """

    def end(self) -> None:
        """It is over. A span that is used as a context manager ends itself."""

    def __enter__(self) -> Self:
        """Make it the parent of what is started in this task, and in tasks started from it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; as failed when an error is on its way. The error goes on."""


NO_SPAN = Span()
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current_span() -> Span:
    """The span this task works in; one that records nothing where there is none."""
    return _current.get()


def enter(span: Span) -> Token[Span]:
    """For implementations: make `span` the current one until `leave`."""
    return _current.set(span)


def leave(token: Token[Span]) -> None:
    """For implementations: undo `enter`."""
    _current.reset(token)


class Tracer(Protocol):
    """Starts spans. One per process, part of its context."""

    is_on: bool

    def span(
        self, kind: Kind, name: str, *, parent: str | None = None, about: About = NOBODY
    ) -> Span:
        """Start a span; to be ended, or used as a context manager.

        Args:
            kind: See `Kind`.
            name: Of few values: no ids.
            parent: A `traceparent` to go on from, from another process; one that is malformed
                counts as none. Without it the current span is the parent.
            about: Whose work it is, as far as the span above does not say.
        """
        ...

    async def aclose(self) -> None:
        """Send what is left, as far as that takes no more than a second or two."""
        ...


class NoTracer(Tracer):
    """Tracing is off."""

    is_on = False

    @override
    def span(
        self, kind: Kind, name: str, *, parent: str | None = None, about: About = NOBODY
    ) -> Span:
        return NO_SPAN

    @override
    async def aclose(self) -> None:
        return


NO_TRACER = NoTracer()
