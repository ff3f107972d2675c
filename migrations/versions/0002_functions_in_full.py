"""Functions in full: triggers, secrets, dependencies, batches, retries.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "environments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("python", sa.String(), nullable=False),
        sa.Column("requirements", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lock", sa.String(), nullable=False),
        sa.Column("is_current", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
    )
    op.create_index(
        "uq_environments_current",
        "environments",
        ["is_current"],
        unique=True,
        postgresql_where=sa.text("is_current"),
    )
    op.create_table(
        "batches",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("function", name="batchkind", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("target_namespace", sa.String(), nullable=False),
        sa.Column("target_name", sa.String(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("trigger_id_prefix", sa.String(), nullable=True),
        sa.Column("callback_url", sa.String(), nullable=True),
        sa.Column(
            "callback_status",
            sa.Enum(
                "pending", "sent", "failed", name="callbackstatus", native_enum=False, length=32
            ),
            nullable=True,
        ),
        sa.Column("callback_response_code", sa.Integer(), nullable=True),
        sa.Column(
            "access", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_batches_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index(
        "ix_batches_callback_due",
        "batches",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("callback_status = 'pending' AND finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_batches_open",
        "batches",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("ix_batches_user", "batches", ["user_id", "created_at"], unique=False)
    op.create_table(
        "dependencies",
        sa.Column("package_name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column(
            "installed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("installed_by", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["installed_by"],
            ["users.id"],
            name=op.f("fk_dependencies_installed_by_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dependencies")),
        sa.UniqueConstraint("package_name", name=op.f("uq_dependencies_package_name")),
    )
    op.create_table(
        "secrets",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column(
            "visibility",
            sa.Enum("shared", "private", name="secretvisibility", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("value_encrypted", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_secrets_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
    )
    op.create_index(op.f("ix_secrets_user_id"), "secrets", ["user_id"], unique=False)
    op.create_index(
        "uq_secrets_private",
        "secrets",
        ["user_id", "name"],
        unique=True,
        postgresql_where=sa.text("visibility = 'private'"),
    )
    op.create_index(
        "uq_secrets_shared",
        "secrets",
        ["name"],
        unique=True,
        postgresql_where=sa.text("visibility = 'shared'"),
    )
    op.create_table(
        "webhooks",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column(
            "target_type",
            sa.Enum("function", "agent", name="targettype", native_enum=False, length=32),
            server_default="function",
            nullable=False,
        ),
        sa.Column("function_namespace", sa.String(), nullable=True),
        sa.Column("function_name", sa.String(), nullable=True),
        sa.Column("agent_namespace", sa.String(), nullable=True),
        sa.Column("agent_name", sa.String(), nullable=True),
        sa.Column(
            "http_method",
            sa.Enum(
                "GET",
                "POST",
                "PUT",
                "DELETE",
                "PATCH",
                name="httpmethod",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column(
            "default_values",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
        ),
        sa.Column("requires_auth", sa.Boolean(), nullable=False),
        sa.Column(
            "response_mode",
            sa.Enum("sync", "async", "raw", name="responsemode", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column(
            "dedup", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column(
            "signature", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("message_template", sa.String(), nullable=True),
        sa.Column("session_key_template", sa.String(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_webhooks_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("path", name=op.f("uq_webhooks_path")),
    )
    op.create_index(op.f("ix_webhooks_user_id"), "webhooks", ["user_id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("chat_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chat_id"], ["chats.id"], name=op.f("fk_artifacts_chat_id_chats"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_artifacts_execution_id_executions"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_artifacts_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
    )
    op.create_index(op.f("ix_artifacts_chat_id"), "artifacts", ["chat_id"], unique=False)
    op.create_index(op.f("ix_artifacts_execution_id"), "artifacts", ["execution_id"], unique=False)
    op.create_table(
        "schedules",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "schedule_type",
            sa.Enum("function", "agent", name="targettype", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("target_namespace", sa.String(), nullable=False),
        sa.Column("target_name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("cron_expression", sa.String(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column(
            "input_data",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("content", sa.String(), nullable=True),
        sa.Column(
            "access", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("allow_overlap", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("last_run", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_run", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_execution_id", sa.Uuid(), nullable=True),
        sa.Column("last_chat_id", sa.Uuid(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["last_chat_id"],
            ["chats.id"],
            name=op.f("fk_schedules_last_chat_id_chats"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["last_execution_id"],
            ["executions.id"],
            name=op.f("fk_schedules_last_execution_id_executions"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_schedules_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_schedules_user_id_name")),
    )
    op.create_index(
        "ix_schedules_due",
        "schedules",
        ["next_run"],
        unique=False,
        postgresql_where=sa.text("is_active"),
    )
    op.create_index(op.f("ix_schedules_user_id"), "schedules", ["user_id"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("content_type", sa.String(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("client_address", sa.String(), nullable=True),
        sa.Column("dedup_key", sa.String(), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "accepted",
                "succeeded",
                "failed",
                "duplicate",
                "rejected",
                name="deliverystatus",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("chat_id", sa.Uuid(), nullable=True),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column(
            "access", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("replay_of", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chat_id"],
            ["chats.id"],
            name=op.f("fk_webhook_deliveries_chat_id_chats"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_webhook_deliveries_execution_id_executions"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["replay_of"],
            ["webhook_deliveries.id"],
            name=op.f("fk_webhook_deliveries_replay_of_webhook_deliveries"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"],
            ["turns.id"],
            name=op.f("fk_webhook_deliveries_turn_id_turns"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_webhook_deliveries_user_id_users")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_webhook_deliveries_webhook_id_webhooks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_dedup",
        "webhook_deliveries",
        ["webhook_id", "dedup_key"],
        unique=False,
        postgresql_where=sa.text("dedup_key IS NOT NULL"),
    )
    op.create_index(
        "ix_webhook_deliveries_execution", "webhook_deliveries", ["execution_id"], unique=False
    )
    op.create_index(
        "ix_webhook_deliveries_received", "webhook_deliveries", ["received_at"], unique=False
    )
    op.create_index("ix_webhook_deliveries_turn", "webhook_deliveries", ["turn_id"], unique=False)
    op.create_index(
        "ix_webhook_deliveries_webhook",
        "webhook_deliveries",
        ["webhook_id", "received_at"],
        unique=False,
    )
    op.add_column("executions", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.add_column(
        "executions",
        sa.Column(
            "trigger_data",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
        ),
    )
    op.add_column(
        "executions",
        sa.Column(
            "kind",
            sa.Enum("function", "code", name="executionkind", native_enum=False, length=32),
            server_default="function",
            nullable=False,
        ),
    )
    op.add_column(
        "executions", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column(
        "executions", sa.Column("depth", sa.Integer(), server_default="1", nullable=False)
    )
    op.add_column(
        "executions", sa.Column("background", sa.Boolean(), server_default="false", nullable=False)
    )
    op.add_column(
        "executions", sa.Column("dead_lettered_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("executions", sa.Column("prompt", sa.String(), nullable=True))
    op.add_column("executions", sa.Column("answer", sa.String(), nullable=True))
    op.add_column("executions", sa.Column("callback_url", sa.String(), nullable=True))
    op.add_column(
        "executions",
        sa.Column(
            "callback_status",
            sa.Enum(
                "pending", "sent", "failed", name="callbackstatus", native_enum=False, length=32
            ),
            nullable=True,
        ),
    )
    op.add_column("executions", sa.Column("callback_response_code", sa.Integer(), nullable=True))
    op.create_index(
        "ix_executions_batch",
        "executions",
        ["batch_id", "status"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_executions_callback_due",
        "executions",
        ["completed_at"],
        unique=False,
        postgresql_where=sa.text("callback_status = 'pending' AND completed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_executions_dead_letters",
        "executions",
        ["dead_lettered_at"],
        unique=False,
        postgresql_where=sa.text("dead_lettered_at IS NOT NULL"),
    )
    op.create_foreign_key(
        op.f("fk_executions_batch_id_batches"),
        "executions",
        "batches",
        ["batch_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.add_column(
        "functions", sa.Column("idempotent", sa.Boolean(), server_default="false", nullable=False)
    )
    op.add_column(
        "functions",
        sa.Column(
            "retry", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
    )
    op.add_column(
        "functions",
        sa.Column(
            "enabled_secrets",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
        ),
    )
    op.add_column("turns", sa.Column("parent_execution_id", sa.Uuid(), nullable=True))
    op.create_index(
        op.f("ix_turns_parent_execution_id"), "turns", ["parent_execution_id"], unique=False
    )
    op.create_foreign_key(
        op.f("fk_turns_parent_execution_id_executions"),
        "turns",
        "executions",
        ["parent_execution_id"],
        ["id"],
        ondelete="SET NULL",
        use_alter=True,
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f("fk_turns_parent_execution_id_executions"), "turns", type_="foreignkey")
    op.drop_index(op.f("ix_turns_parent_execution_id"), table_name="turns")
    op.drop_column("turns", "parent_execution_id")
    op.drop_column("functions", "enabled_secrets")
    op.drop_column("functions", "retry")
    op.drop_column("functions", "idempotent")
    op.drop_constraint(op.f("fk_executions_batch_id_batches"), "executions", type_="foreignkey")
    op.drop_index(
        "ix_executions_dead_letters",
        table_name="executions",
        postgresql_where=sa.text("dead_lettered_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_executions_callback_due",
        table_name="executions",
        postgresql_where=sa.text("callback_status = 'pending' AND completed_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_executions_batch",
        table_name="executions",
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.drop_column("executions", "callback_response_code")
    op.drop_column("executions", "callback_status")
    op.drop_column("executions", "callback_url")
    op.drop_column("executions", "answer")
    op.drop_column("executions", "prompt")
    op.drop_column("executions", "dead_lettered_at")
    op.drop_column("executions", "background")
    op.drop_column("executions", "depth")
    op.drop_column("executions", "attempt")
    op.drop_column("executions", "kind")
    op.drop_column("executions", "trigger_data")
    op.drop_column("executions", "batch_id")
    op.drop_index("ix_webhook_deliveries_webhook", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_turn", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_received", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_execution", table_name="webhook_deliveries")
    op.drop_index(
        "ix_webhook_deliveries_dedup",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("dedup_key IS NOT NULL"),
    )
    op.drop_table("webhook_deliveries")
    op.drop_index(op.f("ix_schedules_user_id"), table_name="schedules")
    op.drop_index("ix_schedules_due", table_name="schedules", postgresql_where=sa.text("is_active"))
    op.drop_table("schedules")
    op.drop_index(op.f("ix_artifacts_execution_id"), table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_chat_id"), table_name="artifacts")
    op.drop_table("artifacts")
    op.drop_index(op.f("ix_webhooks_user_id"), table_name="webhooks")
    op.drop_table("webhooks")
    op.drop_index(
        "uq_secrets_shared", table_name="secrets", postgresql_where=sa.text("visibility = 'shared'")
    )
    op.drop_index(
        "uq_secrets_private",
        table_name="secrets",
        postgresql_where=sa.text("visibility = 'private'"),
    )
    op.drop_index(op.f("ix_secrets_user_id"), table_name="secrets")
    op.drop_table("secrets")
    op.drop_table("dependencies")
    op.drop_index("ix_batches_user", table_name="batches")
    op.drop_index(
        "ix_batches_open", table_name="batches", postgresql_where=sa.text("finished_at IS NULL")
    )
    op.drop_index(
        "ix_batches_callback_due",
        table_name="batches",
        postgresql_where=sa.text("callback_status = 'pending' AND finished_at IS NOT NULL"),
    )
    op.drop_table("batches")
    op.drop_index(
        "uq_environments_current", table_name="environments", postgresql_where=sa.text("is_current")
    )
    op.drop_table("environments")
