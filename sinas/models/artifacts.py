"""Files that code wrote while it ran for a chat."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin


class Artifact(IdMixin, Base):
    """One file. Lives as long as its chat; only the chat's owner reads it."""

    __tablename__ = "artifacts"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    chat_id: Mapped[UUID] = mapped_column(ForeignKey("chats.id", ondelete="CASCADE"), index=True)
    execution_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("executions.id", ondelete="SET NULL"), index=True
    )
    name: Mapped[str]
    media_type: Mapped[str]
    size_bytes: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
