"""Declarative base, naming convention and the columns most tables share."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Enum, MetaData, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sinas.kit.ids import uuid7
from sinas.kit.json_types import JsonValue

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of every model. Text columns are unbounded; limits live in the schemas."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        UUID: Uuid(as_uuid=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        dict[str, JsonValue]: JSONB,
        list[JsonValue]: JSONB,
        # Text, not a database enum: adding a member must not need a migration of its own.
        StrEnum: Enum(
            StrEnum,
            native_enum=False,
            length=32,
            values_callable=lambda members: [member.value for member in members],
        ),
    }


class IdMixin:
    """A time-ordered primary key made by the application."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)


class TimestampMixin:
    """When the row was made and last changed, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class IconMixin:
    """An icon: `url:https://…`, or `collection:namespace/collection/file`."""

    icon: Mapped[str | None]

    @property
    def icon_url(self) -> str | None:
        """Where the icon can be fetched; None when there is none.

        That of a file depends on who asks: whoever answers them sets it.
        """
        kind, _, url = (self.icon or "").partition(":")
        if kind == "url":
            return url if url.startswith(("https://", "http://")) else None
        return self.__dict__.get("_icon_url")

    @icon_url.setter
    def icon_url(self, url: str | None) -> None:
        self.__dict__["_icon_url"] = url
