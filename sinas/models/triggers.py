"""What starts functions and agents from outside: webhooks and schedules."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class TargetType(StrEnum):
    """What a webhook or a schedule starts."""

    FUNCTION = "function"
    AGENT = "agent"


class HttpMethod(StrEnum):
    """Methods a webhook can take."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"


class ResponseMode(StrEnum):
    """What the caller of a webhook gets: the wrapped result, a receipt, or the bare result."""

    SYNC = "sync"
    ASYNC = "async"
    RAW = "raw"


class Webhook(IdMixin, TimestampMixin, Base):
    """A URL that starts a function or an agent.

    Attributes:
        access: The permission limit of whoever last said what it runs, as in `Execution`; counts
            where nobody has to sign in.
        dedup: `key` (`$.a.b` or `header:Name`) and `ttl_seconds`.
        signature: How the body is signed: `secret` (name of a secret of the owner), `header`,
            `algorithm`, `encoding`, `prefix`; null where no signature is asked for.
        message_template: For agents, Jinja2 over the payload.
        session_key_template: For agents, Jinja2 over the payload; one chat per rendered key.
    """

    __tablename__ = "webhooks"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    path: Mapped[str] = mapped_column(unique=True)
    target_type: Mapped[TargetType] = mapped_column(
        default=TargetType.FUNCTION, server_default=TargetType.FUNCTION
    )
    function_namespace: Mapped[str | None]
    function_name: Mapped[str | None]
    agent_namespace: Mapped[str | None]
    agent_name: Mapped[str | None]
    http_method: Mapped[HttpMethod]
    description: Mapped[str | None]
    default_values: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    requires_auth: Mapped[bool]
    response_mode: Mapped[ResponseMode]
    dedup: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    signature: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    message_template: Mapped[str | None]
    session_key_template: Mapped[str | None]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")


class DeliveryStatus(StrEnum):
    """What became of one call of a webhook.

    `accepted` until its target ended; `rejected` for a bad signature or missing rights.
    """

    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class WebhookDelivery(IdMixin, Base):
    """One call of a webhook, as it came in, so that it can be looked at and replayed.

    Attributes:
        user_id: Whom it ran as; null when it was rejected.
        access: The permission limit of that caller, as in `Execution`.
        turn_id: The turn it started, for agents.
        headers: Without credentials.
        body: As received; null where it was larger than is kept.
        dedup_key: Hash of the value the webhook deduplicates by; while a delivery that has not
            failed holds it and is younger than the webhook's TTL, the same value is a duplicate.
        replay_of: The delivery this one repeats.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook", "webhook_id", "received_at"),
        Index(
            "ix_webhook_deliveries_dedup",
            "webhook_id",
            "dedup_key",
            postgresql_where=text("dedup_key IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_received", "received_at"),
        Index("ix_webhook_deliveries_execution", "execution_id"),
        Index("ix_webhook_deliveries_turn", "turn_id"),
    )

    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    method: Mapped[str]
    query: Mapped[str]
    headers: Mapped[JsonObject] = mapped_column(JSONB)
    content_type: Mapped[str | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    body_bytes: Mapped[int]
    client_address: Mapped[str | None]
    dedup_key: Mapped[str | None]
    status: Mapped[DeliveryStatus]
    error: Mapped[str | None]
    execution_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("executions.id", ondelete="SET NULL")
    )
    chat_id: Mapped[UUID | None] = mapped_column(ForeignKey("chats.id", ondelete="SET NULL"))
    turn_id: Mapped[UUID | None] = mapped_column(ForeignKey("turns.id", ondelete="SET NULL"))
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    replay_of: Mapped[UUID | None] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="SET NULL")
    )


class Schedule(IdMixin, TimestampMixin, Base):
    """A cron expression in a time zone that starts a function or a chat with an agent.

    Attributes:
        access: The permission limit of whoever last said what it runs, as in `Execution`.
        allow_overlap: Whether it starts although its last run has not ended.
        next_run: When it is due next; null while inactive.
        last_execution_id: Execution of the last run, for functions.
        last_chat_id: Chat of the last run, for agents.
        last_error: Why the last run could not be started.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("user_id", "name"),
        Index("ix_schedules_due", "next_run", postgresql_where=text("is_active")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    schedule_type: Mapped[TargetType]
    target_namespace: Mapped[str]
    target_name: Mapped[str]
    description: Mapped[str | None]
    cron_expression: Mapped[str]
    timezone: Mapped[str]
    input_data: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    content: Mapped[str | None]
    access: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    allow_overlap: Mapped[bool] = mapped_column(default=False, server_default="false")
    last_run: Mapped[datetime | None]
    next_run: Mapped[datetime | None]
    last_execution_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("executions.id", ondelete="SET NULL")
    )
    last_chat_id: Mapped[UUID | None] = mapped_column(ForeignKey("chats.id", ondelete="SET NULL"))
    last_error: Mapped[str | None]
