"""Batches of chats: turns as parts of a batch, with callbacks of their own.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATUS = sa.Enum("pending", "sent", "failed", name="callbackstatus", native_enum=False, length=32)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("turns", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.add_column("turns", sa.Column("trigger_id", sa.String(), nullable=True))
    op.add_column("turns", sa.Column("callback_url", sa.String(), nullable=True))
    op.add_column("turns", sa.Column("callback_status", _STATUS, nullable=True))
    op.add_column("turns", sa.Column("callback_response_code", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk_turns_batch_id_batches"),
        "turns",
        "batches",
        ["batch_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index(
        "ix_turns_batch",
        "turns",
        ["batch_id", "status"],
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_turns_callback_due",
        "turns",
        ["finished_at"],
        postgresql_where=sa.text("callback_status = 'pending' AND finished_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # A batch of chats has no meaning without its turns' columns.
    op.execute("DELETE FROM batches WHERE kind = 'agent'")
    for name in (
        *("callback_response_code", "callback_status", "callback_url"),
        *("trigger_id", "batch_id"),
    ):
        op.drop_column("turns", name)
