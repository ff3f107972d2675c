"""What one request asks of an agent's model beyond the agent's own settings. Pure."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sinas.kit.json_types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """For all rounds of one turn. What is None or empty leaves the agent's own value.

    Attributes:
        instructions: Texts after the agent's prompt, in order.
        max_tokens: Counts only below the agent's own.
        output_schema: JSON Schema of the answer, in place of the agent's.
        response_format: How a provider is told of it, in OpenAI's format.
        extra: Free parameters of the provider (`top_p`, `seed`, …), over the agent's.
    """

    instructions: tuple[str, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    output_schema: JsonObject | None = None
    response_format: JsonObject | None = None
    extra: JsonObject = field(default_factory=dict)

    @classmethod
    def read(cls, stored: Any) -> "Overrides":
        """From a turn's row."""
        if not stored:
            return cls()
        return cls(**{**stored, "instructions": tuple(stored.get("instructions", ()))})

    def limit(self, own: int | None) -> int | None:
        """How many tokens an answer may have: the agent's limit, or less."""
        limits = [limit for limit in (self.max_tokens, own) if limit is not None]
        return min(limits, default=None)

    def dump(self) -> JsonObject | None:
        """As stored, without what is None or empty; None for nothing at all."""
        held = {n: v for n, v in asdict(self).items() if v is not None and v not in ((), {})}
        return held or None
