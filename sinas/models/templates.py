"""Templates of mail and other documents."""

from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class Template(IdMixin, TimestampMixin, Base):
    """Jinja2 texts that are filled in together: a subject, HTML, plain text.

    Attributes:
        user_id: None for what came with the platform: only admins change it.
        title: The subject of a mail.
        text_content: The plain text of a mail; None for one made from its HTML.
        variable_schema: JSON Schema of the variables; `{}` for any.
        managed_by: What created it and will update it; None for people. So for the two below.
    """

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    title: Mapped[str | None]
    html_content: Mapped[str]
    text_content: Mapped[str | None]
    variable_schema: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    updated_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    managed_by: Mapped[str | None]
    config_name: Mapped[str | None]
    config_checksum: Mapped[str | None]
