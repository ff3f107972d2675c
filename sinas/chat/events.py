"""The events of a turn, as they go over the wire (`event:` name and `data:` object)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.llm.base import Delta

MESSAGE: Final = "message"
TOOL_START: Final = "tool_start"
TOOL_END: Final = "tool_end"
APPROVAL_REQUIRED: Final = "approval_required"
INPUT_REQUIRED: Final = "input_required"
ROUND_SUSPENDED: Final = "round_suspended"
SUB_AGENT: Final = "sub_agent"
INJECTED: Final = "injected"
BUDGET_WARNING: Final = "budget_warning"
RESET: Final = "reset"
DONE: Final = "done"
ERROR: Final = "error"
PING: Final = "ping"
# Not an event name: the `type` of a message's data.
TOOL_REJECTED: Final = "tool_rejected"

TERMINAL: Final = frozenset({DONE, ERROR})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a turn."""

    name: str
    data: JsonObject


def message(
    content: str | None,
    *,
    tool_calls: list[JsonObject] | None = None,
    finish_reason: str | None = None,
    thinking: str | None = None,
) -> Event:
    """One chunk of the model's answer."""
    data: JsonObject = {
        "content": content,
        "tool_calls": list(tool_calls) if tool_calls else None,
        "finish_reason": finish_reason,
    }
    if thinking is not None:
        data["thinking"] = thinking
    return Event(MESSAGE, data)


def chunk(delta: Delta) -> Event | None:
    """The event for a model's delta; None when it has nothing for a client."""
    if (
        delta.content is None
        and not delta.tool_calls
        and delta.finish_reason is None
        and not delta.thinking
    ):
        return None
    calls: list[JsonObject] = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
            "index": call.index,
        }
        for call in delta.tool_calls
    ]
    return message(
        delta.content,
        tool_calls=calls,
        finish_reason=delta.finish_reason,
        thinking=delta.thinking,
    )


def tool_start(call_id: str, name: str, arguments: str, description: str) -> Event:
    """A tool begins to run."""
    return Event(
        TOOL_START,
        {
            "type": TOOL_START,
            "tool_call_id": call_id,
            "name": name,
            "arguments": arguments,
            "description": description,
        },
    )


def tool_end(call_id: str, name: str, result: str) -> Event:
    """A tool's result, as the model gets it."""
    return Event(
        TOOL_END, {"type": TOOL_END, "tool_call_id": call_id, "name": name, "result": result}
    )


def approval_required(call_id: str, namespace: str, name: str, arguments: JsonObject) -> Event:
    """A person must decide on a call before the round goes on."""
    return Event(
        APPROVAL_REQUIRED,
        {
            "type": APPROVAL_REQUIRED,
            "tool_call_id": call_id,
            "function_namespace": namespace,
            "function_name": name,
            "arguments": arguments,
        },
    )


def tool_rejected(call_id: str, namespace: str, name: str) -> Event:
    """A person decided that a call does not run."""
    return Event(
        MESSAGE,
        {
            "type": TOOL_REJECTED,
            "tool_call_id": call_id,
            "function_namespace": namespace,
            "function_name": name,
        },
    )


def input_required(
    call_id: str, question: str, options: JsonValue, expires_at: str | None
) -> Event:
    """The agent asks the user; the turn waits for the answer."""
    return Event(
        INPUT_REQUIRED,
        {
            "type": INPUT_REQUIRED,
            "tool_call_id": call_id,
            "question": question,
            "options": options,
            "expires_at": expires_at,
        },
    )


def round_suspended(
    call_ids: Sequence[str], channel_id: str, usage: JsonObject | None = None
) -> Event:
    """The round waits for calls that end elsewhere: answers, decisions, sub-agents.

    `usage` is what the turn used since it was resumed; None when it had not waited before.
    """
    ids: list[JsonValue] = list(call_ids)
    data: JsonObject = {"type": ROUND_SUSPENDED, "tool_call_ids": ids, "channel_id": channel_id}
    return Event(ROUND_SUSPENDED, data if usage is None else {**data, "usage": usage})


def injected(message_id: str, channel_id: str) -> Event:
    """The chat was busy: the message went into the turn whose events follow."""
    return Event(INJECTED, {"status": INJECTED, "message_id": message_id, "channel_id": channel_id})


def from_sub_agent(event: Event, agent: str, chat_id: str) -> Event:
    """What a sub-agent asks people, in the stream of an agent above it.

    As it is, with where it comes from: clients that know nothing of sub-agents can answer.
    """
    return Event(event.name, {**event.data, "agent": agent, "chat_id": chat_id})


def sub_agent(call_id: str, agent: str, chat_id: str, inner: Event) -> Event:
    """An event of a sub-agent's turn, in the stream of an agent above it.

    `tool_call_id` is the call that this stream's agent made.
    """
    return Event(
        SUB_AGENT,
        {
            "type": SUB_AGENT,
            "tool_call_id": call_id,
            "agent": agent,
            "chat_id": chat_id,
            "event": inner.name,
            "data": inner.data,
        },
    )


def reset() -> Event:
    """Forget the text of the current model round: another worker begins it anew.

    Sent only after a worker died in the middle of an answer and the model's second answer
    differs from what was already shown. Entries of the abandoned attempt are removed, so a
    replay from the start never needs it.
    """
    return Event(RESET, {"type": RESET})


def budget_warning(budget: str, spent: float, limit: float, unit: str, resets_at: str) -> Event:
    """Most of a budget is spent; turns fail when all of it is."""
    return Event(
        BUDGET_WARNING,
        {
            "type": BUDGET_WARNING,
            "budget": budget,
            "spent": spent,
            "limit": limit,
            "unit": unit,
            "resets_at": resets_at,
        },
    )


def blocked(reply: str) -> Event:
    """A hook stopped the message; `reply` stands in for the answer."""
    return Event(MESSAGE, {"type": MESSAGE, "content": reply})


def done(status: str = "completed") -> Event:
    """The end: `completed`, `suspended`, `cancelled` (was stopped) or `blocked` (by a hook)."""
    return Event(DONE, {"status": status})


def error(message: str) -> Event:
    """The end by a failure, in one sentence."""
    return Event(ERROR, {"error": message, "details": None})
