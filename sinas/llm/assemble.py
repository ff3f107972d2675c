"""Folds the deltas of one answer into its text and whole tool calls."""

import uuid
from dataclasses import dataclass, field

from sinas.llm.base import Delta, ToolCallDelta, Usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call as the model made it.

    Attributes:
        id: Unique inside the answer, not beyond it.
        arguments: JSON text, maybe broken: the model wrote it. `{}` if it sent none.
    """

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class _Open:
    id: str | None
    name: str
    pieces: list[str]


class ToolCallAssembler:
    """Puts calls together from deltas that providers shape in many ways.

    - The index tells calls apart. Without one, a new id, or a name after arguments began,
      starts a call; anything else continues the last call.
    - The first id of a call wins over later ones.
    - An index that comes again with another id *and* a name is another call: some gateways
      number every parallel call 0.
    - Calls without a name cannot be run and are dropped.
    """

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._by_index: dict[int, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, delta: ToolCallDelta) -> None:
        """Take the next piece."""
        call = self._find(delta)
        if call is None:
            call = _Open(delta.id, delta.name or "", [])
            self._open.append(call)
            if delta.index is not None:
                self._by_index[delta.index] = call
        else:
            call.id = call.id or delta.id
            call.name = call.name or delta.name or ""
        if delta.arguments:
            call.pieces.append(delta.arguments)

    def calls(self) -> tuple[ToolCall, ...]:
        """All calls in order, with ids that are there and differ from each other."""
        taken: set[str] = set()
        calls = []
        for entry in self._open:
            if not entry.name:
                continue
            # Kept, so that asking again gives the same ids.
            entry.id = entry.id or f"call_{uuid.uuid4().hex}"
            call_id = _unique(entry.id, taken)
            taken.add(call_id)
            calls.append(ToolCall(call_id, entry.name, "".join(entry.pieces) or "{}"))
        return tuple(calls)

    def _find(self, delta: ToolCallDelta) -> _Open | None:
        if delta.index is not None:
            call = self._by_index.get(delta.index)
            return None if call is not None and _is_another(call, delta) else call
        if delta.id is not None:
            for call in self._open:
                if call.id == delta.id and not (delta.name and call.pieces):
                    return call
            if delta.name:
                return None
        last = self._open[-1] if self._open else None
        return None if last is None or (delta.name and last.pieces) else last


def _is_another(call: _Open, delta: ToolCallDelta) -> bool:
    has_new_id = delta.id is not None and call.id is not None and delta.id != call.id
    return has_new_id and bool(delta.name) and bool(call.name)


def _unique(wanted: str, taken: set[str]) -> str:
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}_{number}" in taken:
        number += 1
    return f"{wanted}_{number}"


@dataclass(slots=True)
class TurnText:
    """Everything one answer has said so far.

    Attributes:
        finish_reason: None while the answer runs, and after it where the provider gave none.
        size: Characters so far: text, reasoning, names and arguments of calls.
    """

    finish_reason: str | None = None
    usage: Usage | None = None
    size: int = 0
    _content: list[str] = field(default_factory=list)
    _thinking: list[str] = field(default_factory=list)
    _calls: ToolCallAssembler = field(default_factory=ToolCallAssembler)

    def add(self, delta: Delta) -> None:
        """Take the next delta."""
        if delta.content:
            self._content.append(delta.content)
            self.size += len(delta.content)
        if delta.thinking:
            self._thinking.append(delta.thinking)
            self.size += len(delta.thinking)
        for call in delta.tool_calls:
            self._calls.add(call)
            self.size += len(call.name or "") + len(call.arguments)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage

    @property
    def call_count(self) -> int:
        """How many calls have begun."""
        return len(self._calls)

    @property
    def content(self) -> str:
        """The text of the answer so far."""
        return "".join(self._content)

    @property
    def thinking(self) -> str:
        """The reasoning text so far."""
        return "".join(self._thinking)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither text nor a call: for the caller to judge."""
        return not self.content.strip() and not self._calls.calls()

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls; whole once the stream has ended."""
        return self._calls.calls()
