"""Runtime operations of chats. Handlers that wait or stream hold no transaction meanwhile."""

import re
from contextlib import AsyncExitStack
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Header, Query, Response
from sse_starlette import EventSourceResponse

from sinas.auth.principal import Principal
from sinas.chat import events
from sinas.chat.answer import difference
from sinas.chat.channel import newest_id
from sinas.chat.follow import follow
from sinas.context import JOB_DONE_PREFIX
from sinas.crud.schema import LimitQuery, SkipQuery
from sinas.db.unit import Unit
from sinas.errors import ConflictError, InvalidInputError, NotFoundError
from sinas.models import Chat, Message, TurnStatus
from sinas.resources.chats import pending
from sinas.resources.chats.approvals import DecisionService
from sinas.resources.chats.pending import approval_read
from sinas.resources.chats.repository import cursor_of, open_calls
from sinas.resources.chats.schemas import (
    AnswerAccepted,
    AnswerOutcome,
    AnswerRequest,
    ApprovalRead,
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
    PendingInput,
    SentMessage,
    StopResponse,
)
from sinas.resources.chats.service import ChatService, StartedTurn
from sinas.resources.chats.streaming import Thinking, event_stream
from sinas.resources.chats.waiting import QUEUE_SECONDS, Ended, read_turn, wait_for, wait_for_turn
from sinas.web.deps import CREDENTIALS, Caller, Context, InUnit, authenticated
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
                namespace, agent_name, data, context.settings, inject=True
            )
            listener = await stack.enter_async_context(
                context.signals.listen(f"{JOB_DONE_PREFIX}{started.turn_id}")
            )
        given = {"chat_id": started.chat_id, "session_key": data.session_key}
        if started.injected:
            ended = await read_turn(context, started.turn_id)
            return InvokeResponse.model_validate({"reply": "", **given, **_injected(ended)})
        ended = await wait_for(context, started, listener)
    return InvokeResponse.model_validate({"reply": ended.reply, **given, **_outcome(ended)})


@router.post("/chats/{chat_id}/messages")
async def send_message(
    chat_id: UUID, data: MessageSend, principal: Caller, context: Context
) -> SentMessage:
    """Send a message and wait for the agent's answer."""
    async with AsyncExitStack() as stack:
        async with context.statement_unit() as unit:
            started = await ChatService(unit, principal).send(
                chat_id, data.content, context.settings, inject=True
            )
            listener = await stack.enter_async_context(
                context.signals.listen(f"{JOB_DONE_PREFIX}{started.turn_id}")
            )
        if started.injected:
            said = await _message(context, started.message_id)
            ended = await read_turn(context, started.turn_id)
            return SentMessage.model_validate({**said.model_dump(), **_injected(ended)})
        ended = await wait_for(context, started, listener)
    if ended.message is None:
        raise ConflictError("The turn was stopped before the agent said anything.")
    message = MessageRead.model_validate(ended.message)
    return SentMessage.model_validate({**message.model_dump(), **_outcome(ended)})


async def _message(context: Context, message_id: UUID | None) -> MessageRead:
    async with context.statement_sessions() as session:
        return MessageRead.model_validate(await session.get_one(Message, message_id))


def _outcome(ended: Ended) -> dict[str, object]:
    return {
        "status": ended.state,
        "pending_inputs": ended.questions,
        "pending_approvals": ended.approvals,
        "channel_id": None if ended.state == "completed" else ended.turn.channel_id,
        "usage": ended.usage,
    }


def _injected(ended: Ended) -> dict[str, object]:
    return {
        "status": "injected",
        "pending_inputs": ended.questions,
        "pending_approvals": ended.approvals,
        "channel_id": ended.turn.channel_id,
        "usage": None,
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
                chat_id, data.content, context.settings, channel_id, inject=True
            )
    except BaseException:
        await stack.aclose()
        raise
    if started.injected:
        await stack.aclose()
        return await _join(context, started, Thinking(wanted=data.include_thinking))
    return event_stream(
        context,
        stack,
        entries,
        channel_id=started.channel_id,
        thinking=Thinking(wanted=data.include_thinking),
        abandoned=None if started.keep_alive else started.turn_id,
    )


async def _join(context: Context, started: StartedTurn, thinking: Thinking) -> EventSourceResponse:
    """The rest of the turn that a message was injected into."""
    stack = AsyncExitStack()
    last_id = await newest_id(context.redis, started.channel_id)
    entries = await stack.enter_async_context(
        follow(context, started.chat_id, started.channel_id, last_id)
    )
    told = events.injected(str(started.message_id), started.channel_id)
    return event_stream(
        context,
        stack,
        entries,
        channel_id=started.channel_id,
        thinking=thinking,
        abandoned=None,
        last_id=last_id,
        first=told,
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
        abandoned=None if keep_alive else turn_id,
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


async def _decisions(unit: InUnit, context: Context, principal: Caller) -> DecisionService:
    return DecisionService(context, unit, principal)


_decisions.permission = "authenticated"  # type: ignore[attr-defined]
Decisions = Annotated[DecisionService, Depends(_decisions)]


@router.post("/chats/{chat_id}/approve-tool/{tool_call_id}", status_code=202)
async def approve_tool(
    chat_id: UUID, tool_call_id: str, data: ApprovalRequest, decisions: Decisions
) -> ApprovalResponse:
    """Decide on one tool call that waits for a person. The last decision resumes the turn.

    `arguments` replaces the model's before the call runs. Calls of sub-agents are decided in
    the chat at the top.
    """
    return await decisions.decide(chat_id, tool_call_id, data)


@router.get("/approvals")
async def list_approvals(
    chats: Chats, skip: SkipQuery = 0, limit: LimitQuery = 100
) -> list[ApprovalRead]:
    """List the tool calls that wait for the caller's decision, over all chats, oldest first."""
    return [approval_read(row) for row in await chats.rows.undecided(skip=skip, limit=limit)]


@router.get("/chats/{chat_id}/pending-input")
async def list_pending_inputs(chat_id: UUID, chats: Chats) -> list[PendingInput]:
    """List the questions the chat's agent, or one of its sub-agents, waits for answers to."""
    await chats.get(chat_id)
    return pending.questions(await open_calls(chats.unit.session, chat_id))


@router.post(
    "/chats/{chat_id}/pending-input/{tool_call_id}",
    status_code=202,
    responses={200: {"model": AnswerOutcome, "description": "With `wait`: how the turn ended."}},
)
async def answer_question(
    chat_id: UUID,
    tool_call_id: str,
    data: AnswerRequest,
    principal: Caller,
    context: Context,
    response: Response,
) -> AnswerAccepted | AnswerOutcome:
    """Answer a question of the agent. The last one resumes the turn, on a new channel.

    With `wait`, the answer comes with status 200 when the turn has ended or asks again.
    """
    async with AsyncExitStack() as stack:
        async with context.unit() as unit:
            settled = await DecisionService(context, unit, principal).answer(
                chat_id, tool_call_id, data
            )
            turn = settled.turn
            if not data.wait or turn is None:
                return settled.accepted
            listener = await stack.enter_async_context(
                context.signals.listen(f"{JOB_DONE_PREFIX}{turn.id}")
            )
            # Nothing may be said any more of a turn that still waits for others.
            is_parked = turn.status is TurnStatus.WAITING
        if is_parked:
            ended = await read_turn(context, turn.id)
        else:
            seconds = turn.timeout_seconds + QUEUE_SECONDS
            ended = await wait_for_turn(context, turn.id, listener, seconds)
    response.status_code = 200
    message = MessageRead.model_validate(ended.message) if ended.message else None
    return AnswerOutcome.model_validate(
        {
            **_outcome(ended),
            "usage": difference(ended.usage, settled.usage_before),
            "tool_call_id": tool_call_id,
            "chat_id": chat_id,
            "reply": ended.reply,
            "message": message,
        }
    )


@router.post("/chats/{chat_id}/stop", status_code=202)
async def stop_chat(chat_id: UUID, chats: Chats) -> StopResponse:
    """Stop what the chat's agent does, with all that it started. What it said is kept."""
    count = await chats.stop(chat_id)
    return StopResponse(status="stopping" if count else "idle", turns=count)


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
    """Get one chat with its messages, and what waits for people in it."""
    chat = await chats.get(chat_id)
    waiting = await open_calls(chats.unit.session, chat_id)
    return ChatDetail(
        **_read(chat, chats.principal.email).model_dump(),
        messages=[MessageRead.model_validate(m) for m in await chats.rows.messages(chat_id)],
        pending_approvals=pending.approvals(waiting),
        pending_inputs=pending.questions(waiting),
    )


@router.put("/chats/{chat_id}")
async def update_chat(chat_id: UUID, data: ChatUpdate, chats: Chats) -> ChatRead:
    """Rename, archive or restore a chat."""
    return _read(await chats.update(chat_id, data), chats.principal.email)


@router.delete("/chats/{chat_id}", status_code=204)
async def delete_chat(chat_id: UUID, chats: Chats) -> None:
    """Archive a chat. Its messages stay."""
    await chats.archive(chat_id)
