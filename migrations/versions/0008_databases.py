"""Database connections, annotations of their tables, and saved queries.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_OPERATION = sa.Enum("read", "write", name="queryoperation", native_enum=False, length=32)


def _stamps() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        *(
            sa.Column(
                name,
                sa.DateTime(timezone=True),
                server_default=sa.text("now()"),
                nullable=False,
            )
            for name in ("created_at", "updated_at")
        ),
    ]


def _object(name: str) -> sa.Column[object]:
    return sa.Column(
        name, postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False
    )


def _boolean(name: str, default: str) -> sa.Column[object]:
    return sa.Column(name, sa.Boolean(), server_default=default, nullable=False)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "database_connections",
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("name", "connection_type", "host", "database", "username")
        ),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("password_encrypted", sa.String(), nullable=True),
        sa.Column("ssl_mode", sa.String(), server_default="prefer", nullable=False),
        _object("config"),
        _boolean("read_only", "false"),
        _boolean("is_active", "true"),
        sa.Column("managed_by", sa.String(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        *_stamps(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database_connections")),
    )
    op.create_index(
        "uq_database_connections_name",
        "database_connections",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    _create_annotations()
    _create_queries()


def _create_annotations() -> None:
    op.create_table(
        "database_annotations",
        sa.Column("database_connection_id", sa.Uuid(), nullable=False),
        sa.Column("schema_name", sa.String(), nullable=False),
        sa.Column("table_name", sa.String(), nullable=False),
        *(
            sa.Column(name, sa.String(), nullable=True)
            for name in ("column_name", "display_name", "description")
        ),
        *_stamps(),
        sa.ForeignKeyConstraint(
            ["database_connection_id"],
            ["database_connections.id"],
            name=op.f("fk_database_annotations_database_connection_id_database_connections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database_annotations")),
    )
    op.create_index(
        "uq_database_annotations_target",
        "database_annotations",
        ["database_connection_id", "schema_name", "table_name", "column_name"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


def _create_queries() -> None:
    op.create_table(
        "queries",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("database_connection_id", sa.Uuid(), nullable=False),
        sa.Column("operation", _OPERATION, nullable=False),
        sa.Column("sql", sa.String(), nullable=False),
        _object("input_schema"),
        _object("output_schema"),
        sa.Column("timeout_ms", sa.Integer(), server_default="5000", nullable=False),
        sa.Column("max_rows", sa.Integer(), server_default="1000", nullable=False),
        _boolean("is_active", "true"),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        *_stamps(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_queries_user_id_users")),
        sa.ForeignKeyConstraint(
            ["database_connection_id"],
            ["database_connections.id"],
            name=op.f("fk_queries_database_connection_id_database_connections"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queries")),
    )
    for column in ("user_id", "database_connection_id"):
        op.create_index(op.f(f"ix_queries_{column}"), "queries", [column])
    op.create_index(
        "uq_queries_namespace_name",
        "queries",
        ["namespace", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("queries", "database_annotations", "database_connections"):
        op.drop_table(table)
