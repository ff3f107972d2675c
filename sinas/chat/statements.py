"""The statements every turn runs, each one round trip, built once.

Building a statement costs more than running it, and a transaction around a single one costs
two round trips for nothing: these write all that belongs together in one statement, and run
without BEGIN and COMMIT.
"""

from typing import Any, Final

from sqlalchemy import (
    TextClause,
    Uuid,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from sinas.auth.authenticate import PRINCIPAL_COLUMNS
from sinas.models import (
    Agent,
    Chat,
    Execution,
    ExecutionStatus,
    LlmProvider,
    Message,
    ToolCall,
    Turn,
    TurnStatus,
    User,
)

_turns: Any = Turn.__table__
_other: Any = aliased(Turn.__table__)


def _typed(statement: str, **types: Any) -> TextClause:
    return text(statement).bindparams(*(bindparam(n, type_=t) for n, t in types.items()))


START: Final = _typed(
    """
    WITH chat AS (
        UPDATE chats
        SET last_message_at = clock_timestamp(), updated_at = clock_timestamp(),
            active_channel_id = :channel_id
        WHERE id = :chat_id RETURNING id
    ), turn AS (
        INSERT INTO turns (id, chat_id, user_id, access, channel_id, status, keep_alive,
                           timeout_seconds, parent_execution_id)
        SELECT :turn_id, chat.id, :user_id, :access, :channel_id, 'queued', :keep_alive,
               :timeout_seconds, (SELECT id FROM executions WHERE id = :parent_execution_id)
        FROM chat
        RETURNING id, chat_id
    ), said AS (
        INSERT INTO messages (id, chat_id, turn_id, role, content)
        SELECT :message_id, turn.chat_id, turn.id, 'user', :content FROM turn
    )
    SELECT id FROM turn
    """,
    turn_id=Uuid(),
    chat_id=Uuid(),
    user_id=Uuid(),
    message_id=Uuid(),
    parent_execution_id=Uuid(),
    access=JSONB(none_as_null=True),
)
"""Store a user message, the queued turn that answers it, and both on the chat.

The chat comes first, for its lock: turns and messages of one chat are numbered in one order, the
one they are committed in. No row when the chat is gone.
"""

CLAIM: Final = (
    update(_turns)
    .where(
        _turns.c.id == bindparam("turn_id"),
        _turns.c.status == TurnStatus.QUEUED,
        ~select(_other.c.id)
        .where(
            _other.c.chat_id == _turns.c.chat_id,
            or_(
                _other.c.status == TurnStatus.RUNNING,
                (_other.c.status == TurnStatus.QUEUED) & (_other.c.seq < _turns.c.seq),
            ),
        )
        .correlate(_turns)
        .exists(),
    )
    .values(
        status=TurnStatus.RUNNING,
        lease_owner=bindparam("worker_id"),
        fence=_turns.c.fence + 1,
        started_at=func.coalesce(_turns.c.started_at, func.now()),
    )
    .returning(*_turns.c)
)
"""Take a queued turn when none of its chat runs and none was queued before it."""

_provider_id = (
    select(LlmProvider.id)
    .where(
        or_(
            LlmProvider.id == Agent.llm_provider_id,
            Agent.llm_provider_id.is_(None)
            & LlmProvider.is_default
            & LlmProvider.is_active
            & LlmProvider.deleted_at.is_(None),
        )
    )
    .limit(1)
    .correlate(Agent)
    .scalar_subquery()
)
_parent_depth = (
    select(Execution.depth)
    .where(Execution.id == bindparam("parent_execution_id", type_=Uuid()))
    .scalar_subquery()
)
_has_paused = (
    select(Execution.id)
    .where(Execution.chat_id == Chat.id, Execution.status == ExecutionStatus.AWAITING_INPUT)
    .correlate(Chat)
    .exists()
)
SUBJECT: Final = (
    select(
        Chat,
        Agent,
        LlmProvider,
        _parent_depth.label("parent_depth"),
        _has_paused.label("has_paused"),
        *PRINCIPAL_COLUMNS,
    )
    .outerjoin(Agent, (Agent.id == Chat.agent_id) & Agent.deleted_at.is_(None))
    .outerjoin(LlmProvider, LlmProvider.id == _provider_id)
    .outerjoin(User, (User.id == bindparam("user_id")) & User.is_active)
    .where(Chat.id == bindparam("chat_id"))
)
"""Chat, agent, provider (the agent's, else the default), the user's rights, the depth of the
execution whose code sent the message, and whether one of the chat waits for input."""

HISTORY: Final = (
    select(
        Turn.seq.label("turn_seq"),
        Message.role,
        Message.content,
        Message.tool_calls,
        Message.tool_call_id,
        Message.name,
    )
    .outerjoin(Turn, Turn.id == Message.turn_id)
    .where(
        Message.chat_id == bindparam("chat_id"),
        or_(Turn.seq.is_(None), Turn.seq <= bindparam("seq")),
    )
    .order_by(Message.seq.desc())
    .limit(bindparam("rows"))
)
"""The newest messages, newest first, without those of later turns."""

LAST_CALLS: Final = (
    select(ToolCall)
    .where(
        ToolCall.message_id
        == select(ToolCall.message_id)
        .where(ToolCall.turn_id == bindparam("turn_id"))
        .order_by(ToolCall.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    .order_by(ToolCall.position)
)
"""The calls of a turn's newest round, in order."""

FINISH_CALL: Final = _typed(
    """
    WITH held AS (
        SELECT id, chat_id FROM turns
        WHERE id = :turn_id AND fence = :fence AND status = 'running' FOR UPDATE
    ), done AS (
        UPDATE tool_calls
        SET status = :status, result = :result, duration_ms = :duration_ms,
            finished_at = clock_timestamp()
        FROM held WHERE tool_calls.id = :call_row_id
        RETURNING tool_calls.call_id, tool_calls.name
    ), said AS (
        INSERT INTO messages (id, chat_id, turn_id, role, content, tool_call_id, name)
        SELECT :message_id, held.chat_id, held.id, 'tool', :content, done.call_id, done.name
        FROM held, done
    )
    SELECT id FROM held
    """,
    turn_id=Uuid(),
    call_row_id=Uuid(),
    message_id=Uuid(),
    result=JSONB(none_as_null=True),
)
"""Store the one result of a call; no row when the fence is gone."""

FINISH: Final = _typed(
    """
    WITH held AS (
        UPDATE turns
        SET status = :status, usage = :usage, error = :error, error_code = :error_code,
            reply_message_id = :message_id, lease_owner = NULL, finished_at = clock_timestamp()
        WHERE id = :turn_id AND fence = :fence AND status = 'running'
        RETURNING id, chat_id
    ), said AS (
        INSERT INTO messages (id, chat_id, turn_id, role, content)
        SELECT :message_id, held.chat_id, held.id, 'assistant', :content
        FROM held WHERE CAST(:message_id AS uuid) IS NOT NULL
    ), seen AS (
        UPDATE chats SET last_message_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM held WHERE chats.id = held.chat_id AND CAST(:message_id AS uuid) IS NOT NULL
    ), closed AS (
        UPDATE tool_calls SET status = 'interrupted', finished_at = clock_timestamp()
        FROM held WHERE tool_calls.turn_id = held.id
        AND tool_calls.status IN ('awaiting_approval', 'pending', 'running')
        RETURNING tool_calls.id
    )
    SELECT held.id, ARRAY(SELECT id FROM closed) AS open_calls FROM held
    """,
    turn_id=Uuid(),
    message_id=Uuid(),
    usage=JSONB(),
)
"""End a turn: last message, and open calls closed, whose ids it answers. No row when the fence is
gone."""
