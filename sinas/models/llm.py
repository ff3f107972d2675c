"""LLM providers."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class LlmProvider(IdMixin, TimestampMixin, Base):
    """Where models are reached. `api_key_encrypted` is Fernet text and never leaves the server.

    Deleting is soft (agents may still name it and then get a clear error) and frees its name.
    """

    __tablename__ = "llm_providers"
    __table_args__ = (
        Index(
            "uq_llm_providers_name",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "uq_llm_providers_default",
            "is_default",
            unique=True,
            postgresql_where=text("is_default AND deleted_at IS NULL"),
        ),
    )

    name: Mapped[str]
    provider_type: Mapped[str]
    api_key_encrypted: Mapped[str | None]
    api_endpoint: Mapped[str | None]
    default_model: Mapped[str | None]
    config: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    is_default: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    deleted_at: Mapped[datetime | None]
