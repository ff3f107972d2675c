"""Search in files: their text, its chunks, and pgvector.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# `halfvec` came with 0.7, index scans that go on past what a filter leaves out with 0.8.
_OLDEST = (0, 8)
_DIMENSIONS = (384, 512, 768, 1024, 1536)


class HalfVec(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_):
        return "halfvec"


def _require_pgvector() -> None:
    """Make the extension, or say what the operator has to do."""
    connection = op.get_bind()
    row = connection.execute(
        sa.text(
            "SELECT installed_version, default_version FROM pg_available_extensions "
            "WHERE name = 'vector'"
        )
    ).first()
    if row is None:
        raise RuntimeError(
            "This PostgreSQL has no pgvector, which search in files needs: install it (Debian: "
            "postgresql-16-pgvector; Docker: the image pgvector/pgvector:pg16), then migrate again."
        )
    installed, offered = row
    version = installed or offered
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise RuntimeError(
            f"pgvector {version} is too old for search in files: install 0.8 or newer, run ALTER "
            "EXTENSION vector UPDATE in this database if it is there, then migrate again."
        )
    if installed is None:
        may_create = connection.scalar(
            sa.text(
                "SELECT rolsuper OR EXISTS (SELECT 1 FROM pg_available_extension_versions "
                "WHERE name = 'vector' AND trusted) FROM pg_roles WHERE rolname = current_user"
            )
        )
        # Hosted databases let others than superusers make it, each in its own way: try.
        try:
            with connection.begin_nested():
                connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
        except sa.exc.ProgrammingError as error:
            if may_create:
                raise
            raise RuntimeError(
                "Search in files needs the extension pgvector, and this user may not make it: "
                "have a superuser run CREATE EXTENSION vector in this database, then migrate again."
            ) from error


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _require_pgvector()
    op.create_table(
        "file_indexes",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "pending", "indexed", "skipped", "failed",
                name="indexstatus", native_enum=False, length=32,
            ),
            nullable=False,
        ),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("char_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_file_text", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_whole", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("chunk_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("indexed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"],
            name=op.f("fk_file_indexes_file_id_files"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_file_indexes")),
    )  # fmt: skip
    op.create_index(
        "ix_file_indexes_due_at",
        "file_indexes",
        ["due_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_file_indexes_signature", "file_indexes", ["signature"])
    op.create_table(
        "file_chunks",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("headings", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("language", postgresql.REGCONFIG(), nullable=False),
        sa.Column(
            "words",
            postgresql.TSVECTOR(),
            sa.Computed(
                "to_tsvector('simple'::regconfig, headings || ' ' || content) || "
                "to_tsvector(language, headings || ' ' || content)",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("embedding", HalfVec(), nullable=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"],
            name=op.f("fk_file_chunks_file_id_files"), ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"],
            name=op.f("fk_file_chunks_collection_id_collections"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("file_id", "number", name=op.f("pk_file_chunks")),
    )  # fmt: skip
    # Within the row, for comparing many of them; what makes a row too long is the text's fault,
    # which is read of the best ones only.
    op.execute("ALTER TABLE file_chunks ALTER COLUMN embedding SET STORAGE PLAIN")
    op.create_index("ix_file_chunks_collection_id", "file_chunks", ["collection_id"])
    op.create_index("ix_file_chunks_words", "file_chunks", ["words"], postgresql_using="gin")
    for size in _DIMENSIONS:
        op.create_index(
            f"ix_file_chunks_embedding_{size}",
            "file_chunks",
            [sa.literal_column(f"(embedding::halfvec({size}))").label("sized")],
            postgresql_using="hnsw",
            postgresql_ops={"sized": "halfvec_ip_ops"},
            postgresql_where=sa.text(f"vector_dims(embedding) = {size}"),
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("file_chunks")
    op.drop_table("file_indexes")
    # The extension stays: other tables of this database may use it.
