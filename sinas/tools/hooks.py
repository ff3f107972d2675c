"""Functions that are asked about messages, whoever can run functions."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.kit.json_types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """One function asked about one message.

    Attributes:
        function: `namespace/name`.
        principal: Whom the function runs as. They need no grant to execute it.
        payload: Its input.
        key: Names the call for ever: a second one with the same key is the first one.
    """

    function: str
    principal: Principal
    chat_id: UUID
    payload: JsonObject
    key: str


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What a function returned, or in `failure` why it did not: one sentence."""

    value: JsonValue = None
    failure: str | None = None


class HookRunner(Protocol):
    """Runs the functions of hooks."""

    async def ask(self, call: HookCall, seconds: float) -> HookAnswer:
        """Run it and wait for its answer, at most `seconds`. Raises nothing that hooks cause."""
        ...

    async def fire(self, unit: Unit, call: HookCall) -> UUID | None:
        """Start it once `unit` commits; its execution's id, None when it cannot be started."""
        ...
