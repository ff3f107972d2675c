"""The spans of a turn and of the calls it makes."""

from typing import Final

from sinas.chat.opening import Opening
from sinas.llm.assemble import TurnText
from sinas.models import ToolCall, Turn
from sinas.tools.base import Failed, Ok, Retry, Tool, ToolResult, Waits
from sinas.tracing import names
from sinas.tracing.content import messages_text
from sinas.tracing.spans import NO_SPAN, About, Kind, Span, Tracer, current_span

_TURN: Final = "conversation.turn"
# A sub-agent's turn: no person's message caused it.
_AGENT_JOB: Final = "agent.job"
_DELEGATE: Final = "agent.delegate"
_AGENT_TOOLS: Final = "agent:"


def turn_span(tracer: Tracer, turn: Turn) -> Span:
    """One run of a turn, below what caused the turn: a takeover is another span of that trace."""
    if not tracer.is_on:
        return NO_SPAN
    span = tracer.span(
        Kind.TURN,
        _TURN if turn.parent_call_id is None else _AGENT_JOB,
        parent=turn.traceparent,
        about=About(thread=str(turn.chat_id), user=str(turn.user_id)),
    )
    span.set(
        {
            names.OPERATION: names.INVOKE_AGENT,
            names.TURN_ID: str(turn.id),
            names.TURN_RUN: turn.fence,
        }
    )
    return span


def say_opening(opening: Opening) -> None:
    """Which agent answers, and to what."""
    span = current_span()
    if not span.is_recording:
        return
    chat = opening.subject.chat
    span.belongs_to(About(agent=f"{chat.agent_namespace}/{chat.agent_name}"))
    span.set({names.AGENT_ID: str(chat.agent_id) if chat.agent_id else None})
    if span.keeps_content:
        asked = next((line for line in reversed(opening.history) if line.role == "user"), None)
        if asked is not None:
            span.content(given=messages_text([{"role": "user", "content": asked.content}]))


def say_answer(answer: TurnText) -> None:
    """What the turn ended with."""
    span = current_span()
    if span.keeps_content and answer.content:
        span.content(answered=messages_text([{"role": "assistant", "content": answer.content}]))


def call_span(tracer: Tracer, tool: Tool | None, row: ToolCall) -> Span:
    """One tool call; `tool` is None where the model made its name up."""
    if not tracer.is_on:
        return NO_SPAN
    is_agent = tool is not None and tool.status_key.startswith(_AGENT_TOOLS)
    # Names that are made up are without number.
    name = names.EXECUTE_TOOL if tool is None else f"{names.EXECUTE_TOOL} {tool.name}"
    span = tracer.span(Kind.DELEGATION if is_agent else Kind.TOOL, _DELEGATE if is_agent else name)
    span.set(
        {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: None if tool is None else tool.name,
            names.TOOL_TYPE: "function",
            names.TOOL_CALL_ID: row.call_id,
        }
    )
    span.content(given=row.arguments)
    return span


def say_result(result: ToolResult | None, text: str | None) -> None:
    """What became of the call; None when a dead worker began it.

    `text` is what the model gets of it, None while it is to come from elsewhere.
    """
    span = current_span()
    if not span.is_recording:
        return
    match result:
        case None:
            span.fail("interrupted")
        case Retry(message):
            span.fail("invalid_arguments", message)
        case Failed(error, message):
            span.fail(error, message)
        case Ok() | Waits():
            span.content(answered=text)
