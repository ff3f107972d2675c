"""Connectors, their operations, users' tokens for them, and where secrets may be sent.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _stamps() -> list[sa.Column]:
    return [
        sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
        for name in ("created_at", "updated_at")
    ]


def _json(name: str) -> sa.Column:
    return sa.Column(name, postgresql.JSONB(), server_default="{}", nullable=False)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("secrets", sa.Column("allowed_hosts", postgresql.JSONB(), nullable=True))
    op.create_table(
        "connectors",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("base_url", sa.String(), nullable=False),
        _json("auth"),
        _json("headers"),
        _json("retry"),
        sa.Column("timeout_seconds", sa.Integer(), server_default="30", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("addressed_by", sa.Uuid(), nullable=False),
        sa.Column("trust", sa.String(32), server_default="none", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *_stamps(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_connectors_user_id_users"),
        sa.ForeignKeyConstraint(
            ["addressed_by"], ["users.id"], name="fk_connectors_addressed_by_users"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_connectors"),
        sa.UniqueConstraint("namespace", "name", name="uq_connectors_namespace_name"),
    )
    op.create_index("ix_connectors_user_id", "connectors", ["user_id"])
    op.create_table(
        "connector_operations",
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("config", postgresql.JSONB(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connector_id"],
            ["connectors.id"],
            name="fk_connector_operations_connector_id_connectors",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_connector_operations"),
        sa.UniqueConstraint(
            "connector_id", "name", name="uq_connector_operations_connector_id_name"
        ),
    )
    op.create_table(
        "connector_tokens",
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("access_token_encrypted", sa.String(), nullable=False),
        sa.Column("refresh_token_encrypted", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scope", sa.String(), nullable=True),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *_stamps(),
        sa.ForeignKeyConstraint(
            ["connector_id"],
            ["connectors.id"],
            name="fk_connector_tokens_connector_id_connectors",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_connector_tokens_user_id_users"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_connector_tokens"),
        sa.UniqueConstraint(
            "connector_id", "user_id", name="uq_connector_tokens_connector_id_user_id"
        ),
    )
    op.create_index("ix_connector_tokens_user_id", "connector_tokens", ["user_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("connector_tokens")
    op.drop_table("connector_operations")
    op.drop_table("connectors")
    op.drop_column("secrets", "allowed_hosts")
