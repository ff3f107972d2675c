"""Runtime operations of chats. Handlers that wait or stream hold no transaction meanwhile."""

import re
from contextlib import AsyncExitStack
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Header, Query, Response
from sse_starlette import EventSourceResponse

from sinas.auth.principal import Principal
from sinas.chat.follow import follow
from sinas.context import JOB_DONE_PREFIX
from sinas.db.unit import Unit
from sinas.errors import ConflictError, InvalidInputError, NotFoundError
from sinas.models import Chat
from sinas.resources.chats.approvals import ApprovalService, pending
from sinas.resources.chats.repository import cursor_of
from sinas.resources.chats.schemas import (
    ApprovalRequest,
    ApprovalResponse,
    ChatCreate,
    ChatDetail,
    ChatRead,
    ChatUpdate,
    InvokeRequest,
    InvokeResponse,
    MessageRead,
    MessageSend,
    SentMessage,
    TurnState,
)
from sinas.resources.chats.service import ChatService
from sinas.resources.chats.streaming import Thinking, event_stream
from sinas.resources.chats.waiting import Ended, wait_for
from sinas.web.deps import CREDENTIALS, Caller, Context, authenticated
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["chats"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)

_EVENT_ID = "[0-9]{1,15}(-[0-9]{1,15})?"
Chats = Annotated[ChatService, Depends(authenticated(ChatService))]
LastId = Annotated[
    str, Query(pattern=f"^{_EVENT_ID}$", description="Events after this id; 0 for all.")
]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events up to `done` or `error`.",
        "content": {"text/event-stream": {}},
    }
}


def _read(chat: Chat, email: str) -> ChatRead:
    return ChatRead.model_validate({**_columns(chat), "user_email": email})


def _columns(chat: Chat) -> dict[str, object]:
    return {column.key: getattr(chat, column.key) for column in Chat.__table__.columns}


@router.post("/agents/{namespace}/{agent_name}/chats")
async def create_chat(
    namespace: str, agent_name: str, chats: Chats, data: ChatCreate | None = None
) -> ChatRead:
    """Start a chat with an agent. `input` is checked against the agent's input schema."""
    chat = await chats.create(namespace, agent_name, data or ChatCreate())
    await chats.unit.session.refresh(chat)
    return _read(chat, chats.principal.email)


@router.post("/agents/{namespace}/{agent_name}/invoke")
async def invoke_agent(
    namespace: str, agent_name: str, data: InvokeRequest, principal: Caller, context: Context
) -> InvokeResponse:
    """Send one message and get the reply. With `session_key`, calls share one conversation."""
    async with AsyncExitStack() as stack:
        async with context.unit() as unit:
            started = await ChatService(unit, principal).invoke(
                namespace, agent_name, data, context.settings
            )
            listener = await stack.enter_async_context(
                context.signals.listen(f"{JOB_DONE_PREFIX}{started.turn_id}")
            )
        ended = await wait_for(context, started, listener)
    reply = (ended.message.content if ended.message else None) or ""
    given = {"reply": reply, "chat_id": started.chat_id, "session_key": data.session_key}
    return InvokeResponse.model_validate({**given, **_outcome(ended)})


@router.post("/chats/{chat_id}/messages")
async def send_message(
    chat_id: UUID, data: MessageSend, principal: Caller, context: Context
) -> SentMessage:
    """Send a message and wait for the agent's answer."""
    async with AsyncExitStack() as stack:
        async with context.statement_unit() as unit:
            started = await ChatService(unit, principal).send(
                chat_id, data.content, context.settings
            )
            listener = await stack.enter_async_context(
                context.signals.listen(f"{JOB_DONE_PREFIX}{started.turn_id}")
            )
        ended = await wait_for(context, started, listener)
    if ended.message is None:
        raise ConflictError("The turn was stopped before the agent said anything.")
    message = MessageRead.model_validate(ended.message)
    return SentMessage.model_validate({**message.model_dump(), **_outcome(ended)})


def _outcome(ended: Ended) -> dict[str, object]:
    status: TurnState = "input_required" if ended.approvals else "completed"
    return {
        "status": status,
        "pending_inputs": [],
        "pending_approvals": ended.approvals,
        "channel_id": ended.turn.channel_id if ended.approvals else None,
        "usage": ended.usage,
    }


@router.post(
    "/chats/{chat_id}/messages/stream",
    response_class=EventSourceResponse,
    responses=_STREAM,
)
async def stream_message(
    chat_id: UUID, data: MessageSend, principal: Caller, context: Context
) -> EventSourceResponse:
    """Send a message and stream the turn.

    Every event has an `id`. The channel in `X-Stream-Channel` can be followed again from any
    of them. Without `keep_alive` the turn stops when its last follower leaves.
    """
    stack = AsyncExitStack()
    channel_id = str(uuid4())
    try:
        entries = await stack.enter_async_context(follow(context, chat_id, channel_id, None))
        async with context.statement_unit() as unit:
            started = await ChatService(unit, principal).send(
                chat_id, data.content, context.settings, channel_id
            )
    except BaseException:
        await stack.aclose()
        raise
    return event_stream(
        context,
        stack,
        entries,
        channel_id=started.channel_id,
        thinking=Thinking(wanted=data.include_thinking),
        stop_turn=None if started.keep_alive else started.turn_id,
    )


@router.get(
    "/chats/{chat_id}/stream/{channel_id}",
    response_class=EventSourceResponse,
    responses=_STREAM,
)
async def follow_stream(
    chat_id: UUID,
    channel_id: str,
    principal: Caller,
    context: Context,
    last_id: LastId = "0",
    last_event_id: LastEventId = None,
    include_thinking: bool = False,
) -> EventSourceResponse:
    """Replay a turn's events behind `last_id` (or `Last-Event-ID`), then follow it live."""
    async with context.unit() as unit:
        turn_id, keep_alive = await _turn_of(unit, principal, chat_id, channel_id)
    cursor = _cursor(last_event_id) or last_id
    stack = AsyncExitStack()
    entries = await stack.enter_async_context(follow(context, chat_id, channel_id, cursor))
    return event_stream(
        context,
        stack,
        entries,
        channel_id=channel_id,
        thinking=Thinking(wanted=include_thinking),
        stop_turn=None if keep_alive else turn_id,
        last_id=cursor,
    )


async def _turn_of(
    unit: Unit, principal: Principal, chat_id: UUID, channel_id: str
) -> tuple[UUID, bool]:
    chats = ChatService(unit, principal)
    await chats.sendable(chat_id)
    turn = await chats.rows.turn_of_channel(chat_id, channel_id)
    if turn is None:
        raise NotFoundError("This chat has no such channel")
    return turn.id, turn.keep_alive


def _cursor(last_event_id: str | None) -> str | None:
    if not last_event_id:
        return None
    if re.fullmatch(_EVENT_ID, last_event_id) is None:
        raise InvalidInputError("Last-Event-ID: use the id of an event of this stream.")
    return last_event_id


@router.post(
    "/chats/{chat_id}/approve-tool/{tool_call_id}",
    status_code=202,
)
async def approve_tool(
    chat_id: UUID,
    tool_call_id: str,
    data: ApprovalRequest,
    service: Annotated[ApprovalService, Depends(authenticated(ApprovalService))],
) -> ApprovalResponse:
    """Decide on one tool call that waits for a person. The last decision resumes the turn."""
    return await service.decide(chat_id, tool_call_id, data)


@router.get("/chats")
async def list_chats(
    chats: Chats,
    context: Context,
    response: Response,
    include_archived: bool = False,
    q: Annotated[str | None, Query(description="Only titles that contain this text.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=200)] = None,
    cursor: Annotated[str | None, Query(description="`X-Next-Cursor` of the page before.")] = None,
) -> list[ChatRead]:
    """List the caller's chats, most recently changed first.

    `X-Next-Cursor` leads to the next page. Without `limit` and `cursor` all chats are listed,
    up to a cap at which `X-Truncated: true` is sent.
    """
    paged = limit is not None or cursor is not None
    size = limit or (200 if paged else context.settings.chat.chats_unpaginated_max)
    found, has_more = await chats.listing(
        include_archived=include_archived, query=q, cursor=cursor, limit=size
    )
    if has_more:
        response.headers["X-Next-Cursor"] = cursor_of(found[-1])
        if not paged:
            response.headers["X-Truncated"] = "true"
    return [_read(chat, chats.principal.email) for chat in found]


@router.get("/chats/{chat_id}")
async def get_chat(chat_id: UUID, chats: Chats) -> ChatDetail:
    """Get one chat with its messages and the tool calls that wait for approval."""
    chat = await chats.get(chat_id)
    return ChatDetail(
        **_read(chat, chats.principal.email).model_dump(),
        messages=[MessageRead.model_validate(m) for m in await chats.rows.messages(chat_id)],
        pending_approvals=pending(await chats.rows.awaiting(chat_id)),
    )


@router.put("/chats/{chat_id}")
async def update_chat(chat_id: UUID, data: ChatUpdate, chats: Chats) -> ChatRead:
    """Rename, archive or restore a chat."""
    return _read(await chats.update(chat_id, data), chats.principal.email)


@router.delete("/chats/{chat_id}", status_code=204)
async def delete_chat(chat_id: UUID, chats: Chats) -> None:
    """Archive a chat. Its messages stay."""
    await chats.archive(chat_id)
