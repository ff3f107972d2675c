"""Database connections, what is said about their tables, and saved queries."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject

# `DatabaseConnection.managed_by` of the built-in one.
MANAGED_BY_SYSTEM = "system"


class QueryOperation(StrEnum):
    """Whether a query only looks or may change something."""

    READ = "read"
    WRITE = "write"


class DatabaseConnection(IdMixin, TimestampMixin, Base):
    """How a database is reached. `password_encrypted` is Fernet text and never leaves the server.

    Deleting is soft (queries may still name it and then get a clear error) and frees its name.

    Attributes:
        database: For Snowflake the database, or `database/schema`; its account is the host.
        config: `min_pool_size`, `max_pool_size` and what one type knows besides.
        managed_by: Who keeps it as it is: `system` for the built-in one.
    """

    __tablename__ = "database_connections"
    __table_args__ = (
        Index(
            "uq_database_connections_name",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    name: Mapped[str]
    connection_type: Mapped[str]
    host: Mapped[str]
    port: Mapped[int]
    database: Mapped[str]
    username: Mapped[str]
    password_encrypted: Mapped[str | None]
    ssl_mode: Mapped[str] = mapped_column(default="prefer", server_default="prefer")
    config: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    read_only: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    managed_by: Mapped[str | None]
    deleted_at: Mapped[datetime | None]


class DatabaseAnnotation(IdMixin, TimestampMixin, Base):
    """What people call a table, or a column of it, and what it holds.

    Attributes:
        column_name: None for what is said of the table.
    """

    __tablename__ = "database_annotations"
    __table_args__ = (
        Index(
            "uq_database_annotations_target",
            "database_connection_id",
            "schema_name",
            "table_name",
            "column_name",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    database_connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("database_connections.id", ondelete="CASCADE")
    )
    schema_name: Mapped[str]
    table_name: Mapped[str]
    column_name: Mapped[str | None]
    display_name: Mapped[str | None]
    description: Mapped[str | None]


class Query(IdMixin, TimestampMixin, Base):
    """Saved SQL with `:name` parameters. Deleting is soft and frees its name.

    Attributes:
        timeout_ms: Time limit of one execution, kept by the database's server.
        max_rows: Rows that one execution returns at most.
    """

    __tablename__ = "queries"
    __table_args__ = (
        Index(
            "uq_queries_namespace_name",
            "namespace",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    database_connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("database_connections.id"), index=True
    )
    operation: Mapped[QueryOperation]
    sql: Mapped[str]
    input_schema: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    output_schema: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    timeout_ms: Mapped[int] = mapped_column(default=5000, server_default="5000")
    max_rows: Mapped[int] = mapped_column(default=1000, server_default="1000")
    is_active: Mapped[bool] = mapped_column(default=True, server_default="true")
    deleted_at: Mapped[datetime | None]
