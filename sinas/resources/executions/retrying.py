"""Whether, and when, a failed attempt is followed by another one: pure."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, cast

from sinas.kit.json_types import JsonObject
from sinas.settings import QueueSettings

Backoff = Literal["exponential", "linear", "none"]
_LONGEST_SECONDS = 86_400.0


class Again(StrEnum):
    """When another attempt is right: the code never began, or running it twice does no harm."""

    NEVER = "never"
    ALWAYS = "always"
    IF_IDEMPOTENT = "if_idempotent"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is attempted.

    Attributes:
        max_attempts: The first one included.
        delay_seconds: From the end of the first attempt to the start of the second.
        backoff: How the delay grows: doubled each time, by itself each time, or not.
    """

    max_attempts: int
    delay_seconds: float
    backoff: Backoff

    @classmethod
    def of(cls, retry: JsonObject | None, defaults: QueueSettings) -> "RetryPolicy":
        """What a function says, and the installation where it says nothing."""
        given = {key: value for key, value in (retry or {}).items() if value is not None}
        return cls(
            cast("int", given.get("max_attempts", defaults.max_retries)),
            cast("float", given.get("delay_seconds", defaults.retry_delay)),
            cast("Backoff", given.get("backoff", "exponential")),
        )

    def delay_after(self, attempt: int) -> timedelta:
        """How long to wait after attempt number `attempt`, from 1; a day at most."""
        factor = {"exponential": 2.0 ** (attempt - 1), "linear": float(attempt), "none": 1.0}
        seconds = self.delay_seconds * factor[self.backoff]
        return timedelta(seconds=min(seconds, _LONGEST_SECONDS))
