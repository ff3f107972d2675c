"""What agents may call in the conversation itself: other agents, the user, earlier results."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models import Agent, Chat, ToolCall, ToolCallStatus
from sinas.resources.chats.delegates import delegate_tools
from sinas.resources.chats.repository import ChatRepository
from sinas.tools.base import Call, Failed, Ok, Retry, Tool, ToolContext, ToolResult, Waits

ASK_USER: Final = "ask_user"
CAPABILITY: Final = "askUser"
RETRIEVE: Final = "retrieve_tool_result"
_MAX_OPTIONS: Final = 20
_KEPT = (
    ToolCall.call_id,
    ToolCall.name,
    ToolCall.arguments,
    ToolCall.result,
    ToolCall.status,
    ToolCall.duration_ms,
    ToolCall.created_at,
)


class ConversationTools:
    """Offers `ask_user`, the agent's sub-agents, and `retrieve_tool_result`."""

    kind = "conversation"

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def offer(
        self, agent: Agent, context: ToolContext, session: AsyncSession
    ) -> Sequence[Tool]:
        """The tools; one query where the agent has sub-agents."""
        tools = list(await delegate_tools(self._context, agent, context, session))
        if CAPABILITY in agent.system_tools or any(
            isinstance(one, dict) and one.get("name") == CAPABILITY for one in agent.system_tools
        ):
            seconds = self._context.settings.chat.ask_user_timeout_seconds
            tools.append(_ask_user(timedelta(seconds=seconds) if seconds else None))
        tools.append(_retrieve(self._context, context))
        return tools


def _ask_user(expires_in: timedelta | None) -> Tool:
    return Tool(
        name=ASK_USER,
        description="Asks the user a question and waits for the answer. For what only the user "
        "can know or decide; `options` are suggestions, any text may come back.",
        parameters={
            "type": "object",
            "properties": {
                "question": {"type": "string", "minLength": 1},
                "options": {
                    "type": "array",
                    "items": {"type": "string"},
                    "maxItems": _MAX_OPTIONS,
                },
            },
            "required": ["question"],
        },
        run=_Ask(expires_in),
        status_key=ASK_USER,
        status="Asking you",
        resource=("sinas", ASK_USER),
        follows_approval_rules=False,
        resumable=True,
    )


@dataclass(frozen=True, slots=True)
class _Ask:
    expires_in: timedelta | None

    async def __call__(self, call: Call) -> ToolResult:
        question = call.arguments.get("question")
        options = call.arguments.get("options")
        if not isinstance(question, str) or not question.strip():
            return Retry("`question` must be a text.")
        if options is not None and not _are_texts(options):
            return Retry(f"`options` must be a list of at most {_MAX_OPTIONS} texts.")
        return Waits(
            status=ToolCallStatus.AWAITING_ANSWER,
            question={"question": question, "options": options or None},
            expires_in=self.expires_in,
        )


def _are_texts(options: JsonValue) -> bool:
    return (
        isinstance(options, list)
        and len(options) <= _MAX_OPTIONS
        and all(isinstance(option, str) for option in options)
    )


def _retrieve(app: AppContext, context: ToolContext) -> Tool:
    return Tool(
        name=RETRIEVE,
        description="Reads the full result of an earlier tool call of this conversation again.",
        parameters={
            "type": "object",
            "properties": {"tool_call_id": {"type": "string"}},
            "required": ["tool_call_id"],
        },
        run=_Retrieve(app, context.principal, context.chat_id),
        status_key=RETRIEVE,
        status="Looking at an earlier result",
        resource=("sinas", RETRIEVE),
        follows_approval_rules=False,
        serves_others=True,
        resumable=True,
    )


@dataclass(frozen=True, slots=True)
class _Retrieve:
    app: AppContext
    principal: Principal
    chat_id: UUID

    async def __call__(self, call: Call) -> ToolResult:
        wanted = str(call.arguments.get("tool_call_id", ""))
        async with self.app.statement_sessions() as session:
            statement = (
                select(*_KEPT)
                .join(Chat, Chat.id == ToolCall.chat_id)
                # What the caller could read otherwise, too: a key may be limited to one agent.
                .where(
                    ToolCall.user_id == self.principal.user_id,
                    ToolCall.call_id == wanted,
                    ChatRepository(session, self.principal).readable(),
                )
                .order_by(ToolCall.chat_id != self.chat_id, ToolCall.created_at.desc())
                .limit(1)
            )
            row = (await session.execute(statement)).first()
        if row is None:
            return Failed("Tool result not found", f"No tool call has the id '{wanted}'.")
        found: JsonObject = {
            "tool_call_id": row.call_id,
            "tool_name": row.name,
            "arguments": row.arguments,
            "result": row.result,
            "status_code": 200 if row.status is ToolCallStatus.DONE else 500,
            "duration_ms": row.duration_ms,
            "source": "agent",
            "created_at": row.created_at.isoformat(),
        }
        return Ok(found)
