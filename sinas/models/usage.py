"""What models were asked and what it cost, and the limits on that."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Numeric, func
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin


class ModelCall(IdMixin, Base):
    """One call of a model, of a turn or of the OpenAI adapter.

    Names are kept as text, so that figures outlive what they are about.

    Attributes:
        turn_id: None for a provider's model that was asked directly.
        cost_usd: None where the model's price is not known.
        error_code: Why the call failed; None when it did not.
    """

    __tablename__ = "model_calls"
    __table_args__ = (
        Index("ix_model_calls_created_at", "created_at"),
        Index("ix_model_calls_user_id_created_at", "user_id", "created_at"),
        Index("ix_model_calls_agent_created_at", "agent_namespace", "agent_name", "created_at"),
    )

    turn_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("turns.id", ondelete="SET NULL"), index=True
    )
    chat_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("chats.id", ondelete="SET NULL"), index=True
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    agent_namespace: Mapped[str | None]
    agent_name: Mapped[str | None]
    provider: Mapped[str]
    model: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    total_tokens: Mapped[int]
    cache_read_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    duration_ms: Mapped[int]
    error_code: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Budget(IdMixin, TimestampMixin, Base):
    """How much may be spent in a day (UTC). What is null does not narrow, or does not limit.

    Attributes:
        agent_namespace: Of the agents it is for; `*` for any.
        agent_name: Likewise.
        for_user_id: The user it is for; None for all users together.
        warn_at: Share of the limit at which turns warn, 0 to 1.
    """

    __tablename__ = "budgets"

    name: Mapped[str] = mapped_column(unique=True)
    agent_namespace: Mapped[str | None]
    agent_name: Mapped[str | None]
    for_user_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    limit_usd: Mapped[Decimal | None] = mapped_column(Numeric(20, 6))
    limit_tokens: Mapped[int | None] = mapped_column(BigInteger)
    warn_at: Mapped[float] = mapped_column(default=0.8, server_default="0.8")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
