"""What clients are told of tool calls: each thing once, whichever worker says it."""

from sinas.chat import events
from sinas.chat.asking import asking
from sinas.chat.channel import ChannelWriter, Emitted
from sinas.models import TERMINAL_TOOL_CALL, ToolCall, ToolCallStatus


class Telling:
    """Of one turn, by one worker; `emitted` is what those before it have said."""

    def __init__(self, writer: ChannelWriter, emitted: Emitted) -> None:
        self._writer = writer
        self._started = set(emitted.started)
        self._ended = set(emitted.ended)
        self._rejected = set(emitted.rejected)
        self._asked = set(emitted.asked)

    def start(self, row: ToolCall) -> None:
        """A call begins."""
        event = events.tool_start(row.call_id, row.name, row.arguments, row.description)
        self._once(self._started, row, event)

    def end(self, row: ToolCall, result: str) -> None:
        """A call has its result, as the model gets it."""
        self._once(self._ended, row, events.tool_end(row.call_id, row.name, result))

    def asks(self, row: ToolCall) -> None:
        """People must answer, or decide."""
        self._once(self._asked, row, asking(row))

    def settled(self, row: ToolCall, result: str) -> None:
        """Whatever the journal has of a call; nothing while it may still run."""
        if row.status == ToolCallStatus.REJECTED:
            resource = row.resource_namespace or "", row.resource_name or ""
            self._once(self._rejected, row, events.tool_rejected(row.call_id, *resource))
        elif row.status == ToolCallStatus.AWAITING_ANSWER:
            self.start(row)
            self.asks(row)
        elif row.status in TERMINAL_TOOL_CALL and row.call_id not in self._ended:
            self.start(row)
            self.end(row, result)

    def owes(self, row: ToolCall) -> bool:
        """Whether a call has ended, and clients do not know."""
        told = self._rejected if row.status == ToolCallStatus.REJECTED else self._ended
        return row.status in TERMINAL_TOOL_CALL and row.call_id not in told

    def _once(self, told: set[str], row: ToolCall, event: events.Event) -> None:
        if row.call_id not in told:
            told.add(row.call_id)
            self._writer.put(event)
