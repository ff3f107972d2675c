"""Files: collections, files, their versions, and the bytes in the storage.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_VISIBILITY = sa.Enum("private", "shared", name="filevisibility", native_enum=False, length=32)


def _stamp(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def _json(name: str, default: str) -> sa.Column[object]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=default, nullable=False)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "collections",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        _json("metadata_schema", "{}"),
        sa.Column("content_filter_function", sa.String(), nullable=True),
        sa.Column("post_upload_function", sa.String(), nullable=True),
        _json("allowed_content_types", "[]"),
        sa.Column("max_file_size_mb", sa.Integer(), server_default="100", nullable=False),
        sa.Column("max_total_size_gb", sa.Integer(), server_default="10", nullable=False),
        sa.Column("is_public", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("allow_shared_files", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("allow_private_files", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        _stamp("created_at"),
        _stamp("updated_at"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_collections_user_id_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_collections_namespace_name")),
    )
    op.create_index(op.f("ix_collections_user_id"), "collections", ["user_id"])
    op.create_table(
        "blobs",
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_doomed", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        _stamp("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
    )
    op.create_index(
        "ix_blobs_due_at", "blobs", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
    _create_files()
    _create_versions()


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("current_version", sa.Integer(), server_default="1", nullable=False),
        _json("file_metadata", "{}"),
        sa.Column("visibility", _VISIBILITY, server_default="private", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        _stamp("created_at"),
        _stamp("updated_at"),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_files_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_files_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_user_id"), "files", ["user_id"])
    op.create_index("ix_files_collection_id_name", "files", ["collection_id", "name", "id"])
    op.create_index(
        "uq_files_shared_name",
        "files",
        ["collection_id", "name"],
        unique=True,
        postgresql_where=sa.text("visibility = 'shared'"),
    )
    op.create_index(
        "uq_files_private_name",
        "files",
        ["collection_id", "user_id", "name"],
        unique=True,
        postgresql_where=sa.text("visibility = 'private'"),
    )


def _create_versions() -> None:
    op.create_table(
        "file_versions",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("version_number", sa.Integer(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("hash_sha256", sa.String(), nullable=False),
        sa.Column("uploaded_by", sa.Uuid(), nullable=True),
        sa.Column("filter_execution_id", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        _stamp("created_at"),
        sa.ForeignKeyConstraint(
            ["blob_id"], ["blobs.id"], name=op.f("fk_file_versions_blob_id_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["files.id"],
            name=op.f("fk_file_versions_file_id_files"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["uploaded_by"], ["users.id"], name=op.f("fk_file_versions_uploaded_by_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_versions")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_file_versions_blob_id")),
        sa.UniqueConstraint(
            "file_id", "version_number", name=op.f("uq_file_versions_file_id_version_number")
        ),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("file_versions", "files", "blobs", "collections"):
        op.drop_table(table)
