"""Database triggers by logical replication, and the slots that were made for them.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_SLOTS = "replication_slots"
_TRIGGERS = "database_triggers"
_MODE = sa.Enum("poll", "replication", name="triggermode", native_enum=False, length=32)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        _SLOTS,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("database_connection_id", sa.Uuid(), nullable=False),
        sa.Column("reached_by", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["database_connection_id"],
            ["database_connections.id"],
            name=op.f(f"fk_{_SLOTS}_database_connection_id_database_connections"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{_SLOTS}")),
    )
    op.create_index(op.f(f"ix_{_SLOTS}_database_connection_id"), _SLOTS, ["database_connection_id"])
    op.create_index("ix_replication_slots_due_at", _SLOTS, ["due_at"])
    op.add_column(_TRIGGERS, sa.Column("mode", _MODE, server_default="poll", nullable=False))
    op.alter_column(_TRIGGERS, "poll_column", nullable=True)
    op.add_column(_TRIGGERS, sa.Column("replication_slot_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f(f"fk_{_TRIGGERS}_replication_slot_id_{_SLOTS}"),
        _TRIGGERS,
        _SLOTS,
        ["replication_slot_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index(op.f(f"ix_{_TRIGGERS}_replication_slot_id"), _TRIGGERS, ["replication_slot_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Without this table nobody would know of slots in users' databases: first let them be dropped.
    if op.get_bind().scalar(sa.text(f"SELECT EXISTS (SELECT FROM {_SLOTS})")):  # noqa: S608
        raise RuntimeError(
            "There are replication slots of database triggers: set these triggers to mode 'poll' or "
            "delete them, wait until `sinas cdc` has emptied the table replication_slots, then "
            "downgrade again."
        )
    op.execute(f"DELETE FROM {_TRIGGERS} WHERE mode = 'replication'")  # noqa: S608
    for column in ("replication_slot_id", "mode"):
        op.drop_column(_TRIGGERS, column)
    op.alter_column(_TRIGGERS, "poll_column", nullable=False)
    op.drop_table(_SLOTS)
