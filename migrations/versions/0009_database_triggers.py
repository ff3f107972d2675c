"""Triggers on tables of databases.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLE = "database_triggers"


def _moment(name: str, *, nullable: bool) -> sa.Column[object]:
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _json(name: str, *, nullable: bool) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=nullable)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.String(), nullable=False)


def _integer(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Integer(), server_default=default, nullable=False)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        _TABLE,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("database_connection_id", sa.Uuid(), nullable=False),
        *(_text(name) for name in ("name", "schema_name", "table_name")),
        *(_text(name) for name in ("function_namespace", "function_name", "poll_column")),
        _json("operations", nullable=False),
        *(_integer(name) for name in ("poll_interval_seconds", "batch_size")),
        *(_integer(name, "0") for name in ("generation", "batches", "failures")),
        _json("access", nullable=True),
        _json("bookmark", nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("lease_owner", sa.Uuid(), nullable=True),
        *(_moment(name, nullable=True) for name in ("last_polled_at", "lease_until")),
        *(_moment(name, nullable=False) for name in ("next_poll_at", "created_at", "updated_at")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{_TABLE}_user_id_users")),
        sa.ForeignKeyConstraint(
            ["database_connection_id"],
            ["database_connections.id"],
            name=op.f(f"fk_{_TABLE}_database_connection_id_database_connections"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{_TABLE}")),
        sa.UniqueConstraint("user_id", "name", name=op.f(f"uq_{_TABLE}_user_id_name")),
    )
    for column in ("user_id", "database_connection_id"):
        op.create_index(op.f(f"ix_{_TABLE}_{column}"), _TABLE, [column])
    op.create_index(
        "ix_database_triggers_due",
        _TABLE,
        ["next_poll_at"],
        postgresql_where=sa.text("is_active"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table(_TABLE)
