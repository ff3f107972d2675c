"""Agents, chats, messages, and the journal of turns."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IconMixin, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject, JsonValue
from sinas.models.functions import CallbackStatus


class Agent(IdMixin, TimestampMixin, IconMixin, Base):
    """A model with instructions and the resources it may use.

    Deleting is soft: chats keep pointing at the row, its name is free again.
    References to other resources are names (`namespace/name`), so that an agent survives the
    deletion of what it names and configuration files can be applied in any order.
    """

    __tablename__ = "agents"
    __table_args__ = (
        Index(
            "uq_agents_namespace_name",
            "namespace",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "uq_agents_default",
            "is_default",
            unique=True,
            postgresql_where=text("is_default AND deleted_at IS NULL"),
        ),
    )

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    llm_provider_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("llm_providers.id", ondelete="SET NULL")
    )
    model: Mapped[str | None]
    temperature: Mapped[float] = mapped_column(default=0.7, server_default="0.7")
    max_tokens: Mapped[int | None]
    system_prompt: Mapped[str | None]
    input_schema: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    output_schema: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    initial_messages: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    enabled_functions: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_agents: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_skills: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_queries: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_stores: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_collections: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_components: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    enabled_connectors: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    function_parameters: Mapped[JsonObject] = mapped_column(
        JSONB, default=dict, server_default="{}"
    )
    query_parameters: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    status_templates: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    hooks: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    system_tools: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    tool_approvals: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    provider_overrides: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    is_default: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    default_job_timeout: Mapped[int | None]
    default_keep_alive: Mapped[bool] = mapped_column(default=False, server_default="false")
    deleted_at: Mapped[datetime | None]


class Chat(IdMixin, TimestampMixin, Base):
    """A conversation of one user with one agent.

    The agent's namespace and name are kept as text, so that a chat outlives its agent.
    `agent_input` is the validated input of the creation and never changes.

    Attributes:
        parent_chat_id: Of a sub-agent's chat: the chat whose turn called it.
        root_chat_id: Of a sub-agent's chat: the chat at the top, which people see.
    """

    __tablename__ = "chats"
    __table_args__ = (
        Index("ix_chats_user_updated", "user_id", "updated_at", "id"),
        Index(
            "uq_chats_session",
            "agent_id",
            "session_key",
            unique=True,
            postgresql_where=text("NOT archived AND session_key IS NOT NULL"),
        ),
        Index("ix_chats_expires", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    parent_chat_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("chats.id", ondelete="CASCADE"), index=True
    )
    root_chat_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("chats.id", ondelete="CASCADE"), index=True
    )
    agent_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("agents.id", ondelete="SET NULL"), index=True
    )
    agent_namespace: Mapped[str | None]
    agent_name: Mapped[str | None]
    title: Mapped[str]
    archived: Mapped[bool] = mapped_column(default=False, server_default="false")
    session_key: Mapped[str | None]
    agent_input: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    expires_at: Mapped[datetime | None]
    keep_alive: Mapped[bool | None]
    job_timeout: Mapped[int | None]
    active_channel_id: Mapped[str | None]
    last_message_at: Mapped[datetime | None]


class Message(IdMixin, Base):
    """One message. `seq` gives a chat's messages their order; times may be equal.

    Multimodal `content` is the JSON text of its parts. `tool_calls` has the OpenAI shape plus
    a `description` for display.

    Attributes:
        is_blocked: Whether a hook has stopped it: no model gets to see it.
    """

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_chat_seq", "chat_id", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id", ondelete="CASCADE"))
    turn_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("turns.id", ondelete="SET NULL"), index=True
    )
    role: Mapped[str]
    content: Mapped[str | None]
    tool_calls: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    tool_call_id: Mapped[str | None]
    name: Mapped[str | None]
    is_blocked: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class TurnStatus(StrEnum):
    """Life of a turn.

    `waiting` and `delegated` hold no worker. A turn is `waiting` when nothing but people can
    bring it on, by decisions or answers, its own or those of its sub-agents; it is `delegated`
    while at least one sub-agent works for it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DELEGATED = "delegated"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_TURN = frozenset({TurnStatus.COMPLETED, TurnStatus.FAILED, TurnStatus.CANCELLED})
LIVE_TURN = frozenset(TurnStatus) - TERMINAL_TURN
# What holds a turn open although no worker has it.
SUSPENDED_TURN = frozenset({TurnStatus.WAITING, TurnStatus.DELEGATED})


class Turn(IdMixin, Base):
    """The journal of answering one user message: the durable half of the stream.

    `fence` grows with every claim; a worker whose fence is no longer the row's has lost the
    turn and writes nothing more. `channel_id` names the Redis stream its events go to; it
    changes when the turn is resumed after approvals, and `past_channels` keeps the earlier ones.

    Attributes:
        access: Permission limits of the caller (an API key's map), null for none beyond the
            user's own: tools act with what the caller held, live.
        generation: Part of the job id, so that a taken-over turn is a new job to the queue.
        timeout_seconds: Working time a turn may take in one run of a worker.
        parent_execution_id: The execution whose code sent the message; calls of this turn are
            that execution's children.
        parent_call_id: The tool call this turn answers, of the turn of the agent that made it.
        depth: How many agents above this one wait for it; 0 for a person's message.
        lane: The lane of the agents queue it takes slots of.
        injected: How many messages were added while it was at work.
        overrides: What its request asks for beyond the agent's settings, as
            `sinas.chat.overrides` stores it; null for nothing.
        channel_done: Whether `channel_id` has been closed although the turn will go on.
        batch_id: The batch it is part of. Nobody can be asked to approve its calls.
        trigger_id: Names it to whoever started the batch.
        callback_url: Told when it ends.
        traceparent: The span that caused it (W3C Trace Context), null where nothing is traced:
            every run, whoever makes it, goes on from there.
    """

    __tablename__ = "turns"
    __table_args__ = (
        Index(
            "ix_turns_live",
            "status",
            "queued_at",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index(
            "ix_turns_chat_live",
            "chat_id",
            "seq",
            postgresql_where=text("status IN ('queued', 'running', 'waiting', 'delegated')"),
        ),
        Index("ix_turns_chat", "chat_id"),
        Index(
            "ix_turns_batch", "batch_id", "status", postgresql_where=text("batch_id IS NOT NULL")
        ),
        Index(
            "ix_turns_callback_due",
            "finished_at",
            postgresql_where=text("callback_status = 'pending' AND finished_at IS NOT NULL"),
        ),
    )

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    parent_execution_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("executions.id", ondelete="SET NULL", use_alter=True), index=True
    )
    parent_call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tool_calls.id", ondelete="SET NULL", use_alter=True), unique=True
    )
    depth: Mapped[int] = mapped_column(default=0, server_default="0")
    lane: Mapped[str] = mapped_column(default="", server_default="")
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    channel_id: Mapped[str]
    channel_done: Mapped[bool] = mapped_column(default=False, server_default="false")
    past_channels: Mapped[list[Any]] = mapped_column(JSONB, default=list, server_default="[]")
    status: Mapped[TurnStatus] = mapped_column(default=TurnStatus.QUEUED)
    stop_requested: Mapped[bool] = mapped_column(default=False, server_default="false")
    keep_alive: Mapped[bool] = mapped_column(default=False, server_default="false")
    timeout_seconds: Mapped[int]
    rounds: Mapped[int] = mapped_column(default=0, server_default="0")
    injected: Mapped[int] = mapped_column(default=0, server_default="0")
    overrides: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    takeovers: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_owner: Mapped[UUID | None]
    error: Mapped[str | None]
    error_code: Mapped[str | None]
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batches.id", ondelete="SET NULL"))
    trigger_id: Mapped[str | None]
    callback_url: Mapped[str | None]
    callback_status: Mapped[CallbackStatus | None]
    callback_response_code: Mapped[int | None]
    traceparent: Mapped[str | None]
    reply_message_id: Mapped[UUID | None]
    usage: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ToolCallStatus(StrEnum):
    """Life of one tool call. The last four are terminal: the model gets exactly one result.

    `awaiting_answer` is a question to the user, `delegated` a sub-agent's turn.
    """

    AWAITING_APPROVAL = "awaiting_approval"
    PENDING = "pending"
    RUNNING = "running"
    AWAITING_ANSWER = "awaiting_answer"
    DELEGATED = "delegated"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"


TERMINAL_TOOL_CALL = frozenset(
    {
        ToolCallStatus.DONE,
        ToolCallStatus.FAILED,
        ToolCallStatus.REJECTED,
        ToolCallStatus.INTERRUPTED,
    }
)


class ToolCall(IdMixin, Base):
    """One tool call of a turn: approval, journal and full result in one row.

    `call_id` is what clients and the model see; it is unique within its chat, made so where a
    provider repeats ids.

    Attributes:
        question: What `ask_user` asks: `{"question": text, "options": [text]}`.
        expires_at: When a question or an approval is settled without anybody.
    """

    __tablename__ = "tool_calls"
    __table_args__ = (
        UniqueConstraint("chat_id", "call_id"),
        UniqueConstraint("message_id", "position"),
        Index("ix_tool_calls_turn", "turn_id"),
        Index(
            "ix_tool_calls_awaiting",
            "user_id",
            "created_at",
            postgresql_where=text("status IN ('awaiting_approval', 'awaiting_answer')"),
        ),
        Index(
            "ix_tool_calls_expires",
            "expires_at",
            postgresql_where=text("status IN ('awaiting_approval', 'awaiting_answer')"),
        ),
        Index("ix_tool_calls_delegated", "id", postgresql_where=text("status = 'delegated'")),
    )

    turn_id: Mapped[UUID] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id", ondelete="CASCADE"))
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    position: Mapped[int]
    call_id: Mapped[str]
    name: Mapped[str]
    arguments: Mapped[str]
    description: Mapped[str]
    resource_namespace: Mapped[str | None]
    resource_name: Mapped[str | None]
    status: Mapped[ToolCallStatus] = mapped_column(default=ToolCallStatus.PENDING)
    result: Mapped[JsonValue] = mapped_column(JSONB(none_as_null=True), nullable=True)
    duration_ms: Mapped[int | None]
    question: Mapped[JsonValue] = mapped_column(JSONB(none_as_null=True), nullable=True)
    expires_at: Mapped[datetime | None]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    decided_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class ToolGrant(IdMixin, Base):
    """A tool a person has allowed for the rest of one chat (`always_allow`)."""

    __tablename__ = "tool_grants"
    __table_args__ = (UniqueConstraint("chat_id", "tool_name"),)

    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    tool_name: Mapped[str]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HookRewrite(Base):
    """A message that the result of an asynchronous hook will rewrite.

    No foreign keys: it is made before the message is, and whichever of the two is gone, a sweep
    drops it.
    """

    __tablename__ = "hook_rewrites"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    message_id: Mapped[UUID]
    turn_id: Mapped[UUID]
