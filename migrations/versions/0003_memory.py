"""Memory: skills, stores and their states.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_VISIBILITY = sa.Enum("private", "shared", name="statevisibility", native_enum=False, length=32)


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


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "skills",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        *_stamps(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_skills_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_skills")),
    )
    op.create_index(op.f("ix_skills_user_id"), "skills", ["user_id"])
    op.create_index(
        "uq_skills_namespace_name",
        "skills",
        ["namespace", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "stores",
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column(
            "schema",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("strict", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("default_visibility", _VISIBILITY, server_default="private", nullable=False),
        sa.Column("encrypted", sa.Boolean(), server_default="false", nullable=False),
        *_stamps(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_stores_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stores")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_stores_namespace_name")),
    )
    op.create_index(op.f("ix_stores_user_id"), "stores", ["user_id"])
    _create_states()


def _create_states() -> None:
    op.create_table(
        "states",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("store_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("encrypted_value", sa.String(), nullable=True),
        sa.Column("encrypted", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("visibility", _VISIBILITY, server_default="private", nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column(
            "tags",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
        ),
        sa.Column("relevance_score", sa.Float(), server_default="1.0", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("assistant_id", sa.String(), nullable=True),
        *_stamps(),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["roles.id"],
            name=op.f("fk_states_group_id_roles"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["store_id"],
            ["stores.id"],
            name=op.f("fk_states_store_id_stores"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_states_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_states")),
        sa.UniqueConstraint(
            "user_id", "store_id", "key", name=op.f("uq_states_user_id_store_id_key")
        ),
    )
    op.create_index(op.f("ix_states_store_id"), "states", ["store_id"])
    op.create_index(
        "ix_states_shared",
        "states",
        ["store_id", "key"],
        postgresql_where=sa.text("visibility = 'shared'"),
    )
    op.create_index(
        "ix_states_expires",
        "states",
        ["expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_states_group",
        "states",
        ["group_id"],
        postgresql_where=sa.text("group_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("states")
    op.drop_table("stores")
    op.drop_table("skills")
