"""Agents in full: delegation, questions, approvals, messages into running turns.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_AWAITING = "status IN ('awaiting_approval', 'awaiting_answer')"
_LIVE = "status IN ('queued', 'running', 'waiting'{})"


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        postgresql.JSONB(astext_type=sa.Text()),
        server_default=default,
        nullable=default is None,
    )


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("agents", _json("tool_approvals", "{}"))
    op.add_column("agents", _json("provider_overrides", "{}"))
    for name in ("parent_chat_id", "root_chat_id"):
        op.add_column("chats", sa.Column(name, sa.Uuid(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_chats_{name}_chats"), "chats", "chats", [name], ["id"], ondelete="CASCADE"
        )
        op.create_index(op.f(f"ix_chats_{name}"), "chats", [name])
    op.add_column("turns", sa.Column("parent_call_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_turns_parent_call_id_tool_calls"),
        "turns",
        "tool_calls",
        ["parent_call_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_unique_constraint(op.f("uq_turns_parent_call_id"), "turns", ["parent_call_id"])
    op.add_column("turns", sa.Column("depth", sa.Integer(), server_default="0", nullable=False))
    op.add_column("turns", sa.Column("lane", sa.String(), server_default="", nullable=False))
    op.add_column("turns", sa.Column("injected", sa.Integer(), server_default="0", nullable=False))
    op.add_column("turns", _json("overrides"))
    op.add_column(
        "turns", sa.Column("channel_done", sa.Boolean(), server_default="false", nullable=False)
    )
    _index_live(", 'delegated'")
    op.add_column("tool_calls", _json("question"))
    op.add_column("tool_calls", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    _index_awaiting(_AWAITING)
    op.create_index(
        "ix_tool_calls_expires", "tool_calls", ["expires_at"], postgresql_where=sa.text(_AWAITING)
    )
    op.create_index(
        "ix_tool_calls_delegated",
        "tool_calls",
        ["id"],
        postgresql_where=sa.text("status = 'delegated'"),
    )
    op.add_column(
        "messages",
        sa.Column("is_blocked", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "hook_rewrites",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_hook_rewrites")),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("hook_rewrites")
    op.drop_column("messages", "is_blocked")
    op.drop_index("ix_tool_calls_delegated", table_name="tool_calls")
    op.drop_index("ix_tool_calls_expires", table_name="tool_calls")
    _index_awaiting("status = 'awaiting_approval'")
    op.drop_column("tool_calls", "expires_at")
    op.drop_column("tool_calls", "question")
    _index_live("")
    for name in ("channel_done", "overrides", "injected", "lane", "depth", "parent_call_id"):
        op.drop_column("turns", name)
    for name in ("root_chat_id", "parent_chat_id"):
        op.drop_column("chats", name)
    op.drop_column("agents", "provider_overrides")
    op.drop_column("agents", "tool_approvals")


def _index_live(more: str) -> None:
    op.drop_index("ix_turns_chat_live", table_name="turns")
    op.create_index(
        "ix_turns_chat_live",
        "turns",
        ["chat_id", "seq"],
        postgresql_where=sa.text(_LIVE.format(more)),
    )


def _index_awaiting(where: str) -> None:
    op.drop_index("ix_tool_calls_awaiting", table_name="tool_calls")
    op.create_index(
        "ix_tool_calls_awaiting",
        "tool_calls",
        ["user_id", "created_at"],
        postgresql_where=sa.text(where),
    )
