"""What waits for people, as answers show it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from sinas.chat.asking import parse_arguments
from sinas.models import ToolCall
from sinas.resources.chats.schemas import ApprovalRead, PendingApproval, PendingInput


def approvals(calls: Sequence[ToolCall]) -> list[PendingApproval]:
    """Calls that wait for a decision."""
    return [PendingApproval(**_call(call)) for call in calls if call.question is None]


def approval_read(
    row: Row[ToolCall, UUID, UUID | None, str, str | None, str | None],
) -> ApprovalRead:
    """A call that waits for a decision, with the chat it belongs to."""
    call, chat_id, root_chat_id, title, namespace, name = row
    return ApprovalRead(
        **_call(call),
        root_chat_id=root_chat_id or chat_id,
        chat_title=title,
        agent_namespace=namespace,
        agent_name=name,
    )


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "tool_call_id": call.call_id,
        "chat_id": call.chat_id,
        "function_namespace": call.resource_namespace or "",
        "function_name": call.resource_name or "",
        "name": call.name,
        "arguments": parse_arguments(call.arguments) or {},
        "created_at": call.created_at,
        "expires_at": call.expires_at,
    }


def questions(calls: Sequence[ToolCall]) -> list[PendingInput]:
    """Questions of `ask_user` that wait for an answer."""
    return [_question(call, call.question) for call in calls if isinstance(call.question, dict)]


def _question(call: ToolCall, asked: dict[str, Any]) -> PendingInput:
    return PendingInput(
        tool_call_id=call.call_id,
        chat_id=call.chat_id,
        question=str(asked["question"]),
        options=asked.get("options"),
        expires_at=call.expires_at,
        created_at=call.created_at,
    )
