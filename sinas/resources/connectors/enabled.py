"""What an agent's `enabled_connectors` say of each operation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinas.crud.references import closest
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent


@dataclass(frozen=True, slots=True)
class EnabledConnectors:
    """The entries of one agent, in its order; the most specific ones count for a connector."""

    entries: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, agent: Agent) -> "EnabledConnectors":
        """The agent's entries."""
        return cls(tuple(agent.enabled_connectors or ()))

    def references(self) -> list[tuple[str, Sequence[str]]]:
        """Each entry's connectors, and the operations it names; none are all."""
        return [(entry["connector"], entry.get("operations") or ()) for entry in self.entries]

    def parameters(self, namespace: str, name: str, operation: str) -> JsonObject | None:
        """The configured parameters of an operation, None where it is not enabled.

        In the form of functions' parameters. A plain value is fixed and hidden here; only
        `{"value": …, "locked": false}` is a default.
        """
        references = [entry["connector"] for entry in self.entries]
        for place in closest(references, namespace, name):
            entry = self.entries[place]
            operations = entry.get("operations") or ()
            if not operations or operation in operations:
                told = (entry.get("parameters") or {}).get(operation) or {}
                return {key: _locked(value) for key, value in told.items()}
        return None


def _locked(value: JsonValue) -> JsonObject:
    if isinstance(value, dict) and "value" in value and value.keys() <= {"value", "locked"}:
        return {"value": value["value"], "locked": value.get("locked") is not False}
    return {"value": value, "locked": True}
