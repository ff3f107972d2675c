"""Functions, their versions and every run of one."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IconMixin, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject, JsonValue


class ExecutionStatus(StrEnum):
    """Life of an execution. The last three are terminal and written once."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    AWAITING_INPUT = "AWAITING_INPUT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ExecutionKind(StrEnum):
    """What runs: a stored function, or code somebody sent (the tool `execute_code`)."""

    FUNCTION = "function"
    CODE = "code"


class CallbackStatus(StrEnum):
    """Whether the callback of an execution, a turn or a batch was delivered."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


TERMINAL_EXECUTION = frozenset(
    {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}
)


class TriggerType(StrEnum):
    """What caused an execution."""

    WEBHOOK = "WEBHOOK"
    SCHEDULE = "SCHEDULE"
    AGENT = "AGENT"
    MANUAL = "MANUAL"
    API = "API"
    CDC = "CDC"
    HOOK = "HOOK"


class Function(IdMixin, TimestampMixin, IconMixin, Base):
    """A Python function. `timeout` is in seconds, null meaning the platform's default.

    Attributes:
        idempotent: Whether running it twice with the same input does no harm: only then is an
            attempt that began run again.
        retry: `max_attempts`, `delay_seconds`, `backoff`; null for the platform's defaults.
        enabled_secrets: Names of the secrets a shared-pool function gets; null for all.
    """

    __tablename__ = "functions"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    code: Mapped[str]
    input_schema: Mapped[JsonObject] = mapped_column(JSON)
    output_schema: Mapped[JsonObject] = mapped_column(JSON)
    shared_pool: Mapped[bool] = mapped_column(default=False, server_default="false")
    requires_approval: Mapped[bool] = mapped_column(default=False, server_default="false")
    timeout: Mapped[int | None]
    idempotent: Mapped[bool] = mapped_column(default=False, server_default="false")
    retry: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    enabled_secrets: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")


class FunctionVersion(IdMixin, Base):
    """The code and schemas as they were after one change; numbers start at 1."""

    __tablename__ = "function_versions"
    __table_args__ = (UniqueConstraint("function_id", "version"),)

    function_id: Mapped[UUID] = mapped_column(ForeignKey("functions.id", ondelete="CASCADE"))
    version: Mapped[int]
    code: Mapped[str]
    input_schema: Mapped[JsonObject] = mapped_column(JSON)
    output_schema: Mapped[JsonObject] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))


class Execution(IdMixin, Base):
    """One run of a function, from before it is queued until after it ended.

    The row is the outbox of its own job: it is committed as PENDING before the job is pushed,
    and a sweep pushes it again if the push was lost. `lease_owner` names the worker that runs
    it; when that worker's lease in `workers` has run out, the run is over for everybody else.
    `idempotency_key` lets a caller that was interrupted find the run it already started.
    `access` is the permission limit of the caller (an API key's map), null for none: the
    call's own token carries it.

    Attributes:
        attempt: How many attempts have begun.
        depth: 1 for a call from outside, one more for each call made by user code.
        background: Whether nobody waits for it: a final failure is then a dead letter.
        dead_lettered_at: Set while it is in the dead-letter list.
        queued_at: When its job was pushed or, for a delayed one, becomes due.
        prompt: What `input()` asks, while AWAITING_INPUT.
        answer: The reply to `prompt` until the code has taken it.
        trigger_data: What the code's context holds besides, by key: a webhook's request.
        traceparent: The span that caused it (W3C Trace Context), null where nothing is traced:
            every attempt, whoever makes it, goes on from there.
    """

    __tablename__ = "executions"
    __table_args__ = (
        Index("ix_executions_user_started", "user_id", "started_at"),
        Index("ix_executions_started", "started_at"),
        Index("ix_executions_chat", "chat_id", postgresql_where=text("chat_id IS NOT NULL")),
        Index(
            "ix_executions_live",
            "status",
            "queued_at",
            postgresql_where=text("status IN ('PENDING', 'RUNNING', 'AWAITING_INPUT')"),
        ),
        Index(
            "ix_executions_dead_letters",
            "dead_lettered_at",
            postgresql_where=text("dead_lettered_at IS NOT NULL"),
        ),
        Index(
            "ix_executions_batch",
            "batch_id",
            "status",
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        Index(
            "ix_executions_callback_due",
            "completed_at",
            postgresql_where=text("callback_status = 'pending' AND completed_at IS NOT NULL"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    function_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("functions.id", ondelete="SET NULL"), index=True
    )
    function_namespace: Mapped[str]
    function_name: Mapped[str]
    trigger_type: Mapped[TriggerType]
    trigger_id: Mapped[str]
    trigger_data: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    chat_id: Mapped[UUID | None] = mapped_column(ForeignKey("chats.id", ondelete="SET NULL"))
    tool_call_id: Mapped[str | None]
    traceparent: Mapped[str | None]
    parent_execution_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("executions.id", ondelete="SET NULL"), index=True
    )
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batches.id", ondelete="SET NULL"))
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    kind: Mapped[ExecutionKind] = mapped_column(
        default=ExecutionKind.FUNCTION, server_default=ExecutionKind.FUNCTION
    )
    status: Mapped[ExecutionStatus] = mapped_column(default=ExecutionStatus.PENDING)
    input_data: Mapped[JsonObject] = mapped_column(JSONB)
    output_data: Mapped[JsonValue] = mapped_column(JSONB(none_as_null=True), nullable=True)
    error: Mapped[str | None]
    traceback: Mapped[str | None]
    stdout: Mapped[str | None]
    stderr: Mapped[str | None]
    timeout_seconds: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    depth: Mapped[int] = mapped_column(default=1, server_default="1")
    background: Mapped[bool] = mapped_column(default=False, server_default="false")
    dead_lettered_at: Mapped[datetime | None]
    prompt: Mapped[str | None]
    answer: Mapped[str | None]
    callback_url: Mapped[str | None]
    callback_status: Mapped[CallbackStatus | None]
    callback_response_code: Mapped[int | None]
    lease_owner: Mapped[UUID | None]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))


class BatchKind(StrEnum):
    """What a batch runs: calls of a function, or messages to an agent."""

    FUNCTION = "function"
    AGENT = "agent"


class Batch(IdMixin, Base):
    """Many executions of one function, or turns of one agent, started by one request.

    Its counts are theirs.

    `access` is the permission limit of whoever started it, as in `Execution`.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_user", "user_id", "created_at"),
        Index("ix_batches_open", "created_at", postgresql_where=text("finished_at IS NULL")),
        Index(
            "ix_batches_callback_due",
            "finished_at",
            postgresql_where=text("callback_status = 'pending' AND finished_at IS NOT NULL"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[BatchKind]
    target_namespace: Mapped[str]
    target_name: Mapped[str]
    total: Mapped[int]
    trigger_id_prefix: Mapped[str | None]
    callback_url: Mapped[str | None]
    callback_status: Mapped[CallbackStatus | None]
    callback_response_code: Mapped[int | None]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    cancelled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
