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
    case,
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
    Budget,
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

# What models get of a message that a hook has blocked: the reply to it needs something before it.
_WITHHELD: Final = "[This message was withheld.]"
_turns: Any = Turn.__table__
_other: Any = aliased(Turn.__table__)


def _typed(statement: str, **types: Any) -> TextClause:
    return text(statement).bindparams(*(bindparam(n, type_=t) for n, t in types.items()))


START: Final = _typed(
    """
    WITH live AS (
        UPDATE turns SET injected = injected + 1
        WHERE CAST(:inject AS boolean)
          AND id = (SELECT id FROM turns
                    WHERE chat_id = :chat_id
                      AND (status IN ('running', 'delegated')
                           OR (status = 'queued' AND fence > 0)
                           OR (status = 'waiting' AND EXISTS (
                               SELECT id FROM tool_calls WHERE turn_id = turns.id
                               AND status IN ('awaiting_answer', 'delegated'))))
                    ORDER BY seq LIMIT 1)
          AND status IN ('queued', 'running', 'waiting', 'delegated') AND NOT stop_requested
          AND access IS NOT DISTINCT FROM :access
        RETURNING id, channel_id
    ), chat AS (
        UPDATE chats
        SET last_message_at = clock_timestamp(), updated_at = clock_timestamp(),
            active_channel_id = COALESCE((SELECT channel_id FROM live), :channel_id)
        WHERE id = :chat_id RETURNING id
    ), turn AS (
        INSERT INTO turns (id, chat_id, user_id, access, channel_id, status, keep_alive,
                           timeout_seconds, parent_execution_id, parent_call_id, depth, lane,
                           overrides, traceparent)
        SELECT :turn_id, chat.id, :user_id, :access, :channel_id, 'queued', :keep_alive,
               :timeout_seconds, (SELECT id FROM executions WHERE id = :parent_execution_id),
               :parent_call_id, :depth, :lane, :overrides, :traceparent
        FROM chat WHERE NOT EXISTS (SELECT id FROM live)
        RETURNING id, channel_id
    ), begun AS (
        SELECT id, channel_id, TRUE AS injected FROM live
        UNION ALL SELECT id, channel_id, FALSE FROM turn
    ), said AS (
        INSERT INTO messages (id, chat_id, turn_id, role, content)
        SELECT :message_id, chat.id, begun.id, 'user', :content FROM chat, begun
    )
    SELECT id, channel_id, injected FROM begun
    """,
    turn_id=Uuid(),
    chat_id=Uuid(),
    user_id=Uuid(),
    message_id=Uuid(),
    parent_execution_id=Uuid(),
    parent_call_id=Uuid(),
    access=JSONB(none_as_null=True),
    overrides=JSONB(none_as_null=True),
)
"""Store a user message, with the queued turn that answers it, and both on the chat.

With `inject`, a message for a chat whose turn is at work, or asks something, goes into that turn
instead; while one only waits for approvals, a new message is a turn of its own. So is one of a
caller with other rights than the turn acts with: their words must not borrow those. The turn's
row is locked before the chat's, as in `FINISH`: a turn that ends in this moment takes no message
any more, and one that has taken it cannot end without having seen it. The chat's lock numbers
turns and messages of one chat in the order they are committed in. No row when the chat is gone.
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
                _other.c.status.in_([TurnStatus.RUNNING, TurnStatus.DELEGATED]),
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
"""Take a queued turn when none of its chat is at work and none was queued before it."""

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
_has_budgets = select(Budget.id).where(Budget.is_active).exists()
SUBJECT: Final = (
    select(
        Chat,
        Agent,
        LlmProvider,
        _parent_depth.label("parent_depth"),
        _has_paused.label("has_paused"),
        _has_budgets.label("has_budgets"),
        *PRINCIPAL_COLUMNS,
    )
    .outerjoin(Agent, (Agent.id == Chat.agent_id) & Agent.deleted_at.is_(None))
    .outerjoin(LlmProvider, LlmProvider.id == _provider_id)
    .outerjoin(User, (User.id == bindparam("user_id")) & User.is_active)
    .where(Chat.id == bindparam("chat_id"))
)
"""Chat, agent, provider (the agent's, else the default), the user's rights, the depth of the
execution whose code sent the message, whether one of the chat waits for input, and whether there
are budgets at all."""

_this = aliased(Turn)
_injected = select(_this.injected).where(_this.id == bindparam("turn_id")).scalar_subquery()
_history = (
    select(
        Turn.seq.label("turn_seq"),
        _injected.label("injected"),
        Message.role,
        case((Message.is_blocked, _WITHHELD), else_=Message.content).label("content"),
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
)
HISTORY: Final = _history.limit(bindparam("rows"))
"""The newest messages, newest first, without those of later turns; and how many were injected
into this one."""

QUESTION: Final = _history.where(Message.role == "user").limit(1)
"""The newest of them that a user wrote."""

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
          AND (CAST(:injected AS integer) IS NULL OR injected = :injected)
        RETURNING id, chat_id, user_id, injected
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
        AND tool_calls.status IN
            ('awaiting_approval', 'pending', 'running', 'awaiting_answer', 'delegated')
        RETURNING tool_calls.id
    ), counted AS (
        INSERT INTO model_calls (id, turn_id, chat_id, user_id, agent_namespace, agent_name,
                                 provider, model, prompt_tokens, completion_tokens, total_tokens,
                                 cache_read_tokens, cache_write_tokens, cost_usd, duration_ms,
                                 error_code)
        SELECT made.id, held.id, held.chat_id, held.user_id, CAST(:agent_namespace AS text),
               CAST(:agent_name AS text), made.provider, made.model, made.prompt_tokens,
               made.completion_tokens, made.total_tokens, made.cache_read_tokens,
               made.cache_write_tokens, made.cost_usd, made.duration_ms, made.error_code
        FROM held, jsonb_to_recordset(:model_calls) AS made(
            id uuid, provider text, model text, prompt_tokens integer, completion_tokens integer,
            total_tokens integer, cache_read_tokens integer, cache_write_tokens integer,
            cost_usd numeric, duration_ms integer, error_code text)
    )
    SELECT held.id, held.injected, ARRAY(SELECT id FROM closed) AS open_calls FROM held
    """,
    turn_id=Uuid(),
    message_id=Uuid(),
    usage=JSONB(),
    model_calls=JSONB(),
)
"""End a turn: last message, model calls not stored yet, and open calls closed, whose ids it
answers. No row when the fence is gone, or when more messages were injected than `injected`."""

AUDIENCE: Final = _typed(
    """
    WITH RECURSIVE above AS (
        SELECT turns.channel_id, turns.parent_call_id, tool_calls.call_id,
               turns.depth
        FROM tool_calls JOIN turns ON turns.id = tool_calls.turn_id
        WHERE tool_calls.id = :call_key
        UNION ALL
        SELECT turns.channel_id, turns.parent_call_id, tool_calls.call_id,
               turns.depth
        FROM above
        JOIN tool_calls ON tool_calls.id = above.parent_call_id
        JOIN turns ON turns.id = tool_calls.turn_id
    )
    SELECT channel_id, call_id FROM above ORDER BY depth DESC
    """,
    call_key=Uuid(),
)
"""The channels of the turns above a sub-agent's, nearest first, with the call each waits for."""

CHATS_ABOVE: Final = _typed(
    """
    WITH RECURSIVE above AS (
        SELECT turns.chat_id, turns.parent_call_id
        FROM tool_calls JOIN turns ON turns.id = tool_calls.turn_id
        WHERE tool_calls.id = :call_key
        UNION ALL
        SELECT turns.chat_id, turns.parent_call_id
        FROM above
        JOIN tool_calls ON tool_calls.id = above.parent_call_id
        JOIN turns ON turns.id = tool_calls.turn_id
    )
    SELECT chat_id FROM above
    """,
    call_key=Uuid(),
)
"""The chats whose turns wait for a call, in no order."""
