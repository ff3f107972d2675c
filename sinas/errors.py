"""Every error Sinas raises on purpose. No HTTP in here: edges map classes to statuses.

```
SinasError
├── UnauthenticatedError      no credentials, or none that are valid now
├── ForbiddenError            the row may be seen, the action is not granted
├── NotFoundError             absent, or not visible to the caller
├── ConflictError             a unique key is taken, or the state does not allow the action
│   ├── DuplicateError        a unique key is taken (the contract answers 400)
│   └── PreconditionError     the row is not, or no more, what the caller took it for
├── InvalidInputError         input that breaks a schema or a rule; carries field errors
│   └── BadRequestError       as above where the contract answers 400
├── PayloadTooLargeError      a body above the limit of its route
├── RateLimitedError          too many attempts; carries the wait
├── UpstreamError             an LLM provider or other remote answered badly
│   └── OutputInvalidError    a model's answer breaks the agent's output schema
├── UnavailableError          a part of the platform is down or full; try again
├── DeadlineError             the time limit of the operation passed
├── LeaseLostError            another worker took this work over; stop silently
└── ConfigurationError        the operator's settings cannot work; refuses to start
```

Catch `SinasError` for all of them. Each message is one readable sentence that names the
field and the fix, fit to be shown to the caller: no secrets, no SQL, no stack traces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One rejected field.

    Attributes:
        field: Dotted path inside the input, `""` for the whole.
        message: What is wrong with it, as a sentence.
    """

    field: str
    message: str


class SinasError(Exception):
    """Base of the tree. `code` is a stable identifier clients may switch on."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnauthenticatedError(SinasError):
    """No credentials, or none that are valid now."""

    code = "unauthenticated"


class ForbiddenError(SinasError):
    """The caller may see the row but not do this with it."""

    code = "forbidden"


class NotFoundError(SinasError):
    """The row is absent or not visible to the caller; the two look the same."""

    code = "not_found"


class ConflictError(SinasError):
    """The state of the row does not allow the action."""

    code = "conflict"


class DuplicateError(ConflictError):
    """A unique key is taken."""

    code = "duplicate"


class PreconditionError(ConflictError):
    """The row is not, or no more, what the caller took it for."""

    code = "precondition_failed"


class InvalidInputError(SinasError):
    """Input breaks a schema or a rule. `errors` names each field."""

    code = "invalid_input"

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class BadRequestError(InvalidInputError):
    """Invalid input on an operation whose contract answers 400, not 422."""

    code = "bad_request"


class PayloadTooLargeError(SinasError):
    """The request body is larger than its route allows."""

    code = "payload_too_large"


class RateLimitedError(SinasError):
    """Too many attempts. `retry_after_seconds` says when the next one counts."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UpstreamError(SinasError):
    """A remote service (LLM provider, mail server) answered badly or not at all.

    `status` is the remote's HTTP status where it gave one.
    """

    code = "upstream_error"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class OutputInvalidError(UpstreamError):
    """A model's answer does not match the agent's output schema, also when asked again."""

    code = "output_invalid"


class UnavailableError(SinasError):
    """A part of the platform is down or full for now. Trying again may help."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineError(SinasError):
    """The operation's time limit passed."""

    code = "deadline_exceeded"


class LeaseLostError(SinasError):
    """Another worker holds the lease now; whoever gets this stops without writing."""

    code = "lease_lost"


class ConfigurationError(SinasError):
    """The operator's settings cannot work. Raised at start, never in a request."""

    code = "configuration"
