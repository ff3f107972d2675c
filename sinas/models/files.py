"""Collections, the files in them, and the bytes that files have."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base, IdMixin, TimestampMixin
from sinas.kit.json_types import JsonObject


class FileVisibility(StrEnum):
    """Who reads a file besides its owner: nobody, or whoever may read files of its collection."""

    PRIVATE = "private"
    SHARED = "shared"


class Collection(IdMixin, TimestampMixin, Base):
    """A set of files and the rules they keep.

    Attributes:
        metadata_schema: JSON Schema of each file's metadata; empty for any.
        content_filter_function: `namespace/name` of what approves, refuses or replaces contents.
        post_upload_function: `namespace/name` of what is called after each new version.
        allowed_content_types: Such as `image/*`; empty for all.
        max_total_size_gb: Of all versions of all files.
        stored_bytes: What all versions of all files have now. Whoever adds or removes some locks
            this row first: the total is what they agree on.
    """

    __tablename__ = "collections"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    namespace: Mapped[str]
    name: Mapped[str]
    metadata_schema: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    content_filter_function: Mapped[str | None]
    post_upload_function: Mapped[str | None]
    allowed_content_types: Mapped[list[Any]] = mapped_column(
        JSONB, default=list, server_default="[]"
    )
    max_file_size_mb: Mapped[int] = mapped_column(default=100, server_default="100")
    max_total_size_gb: Mapped[int] = mapped_column(default=10, server_default="10")
    is_public: Mapped[bool] = mapped_column(default=False, server_default="false")
    allow_shared_files: Mapped[bool] = mapped_column(default=True, server_default="true")
    allow_private_files: Mapped[bool] = mapped_column(default=True, server_default="true")
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class File(IdMixin, TimestampMixin, Base):
    """A name in a collection, and what its versions have in common.

    Shared files have names of their own in a collection, private ones in what their owner keeps
    there.
    """

    __tablename__ = "files"
    __table_args__ = (
        Index(
            "uq_files_shared_name",
            "collection_id",
            "name",
            unique=True,
            postgresql_where=text("visibility = 'shared'"),
        ),
        Index(
            "uq_files_private_name",
            "collection_id",
            "user_id",
            "name",
            unique=True,
            postgresql_where=text("visibility = 'private'"),
        ),
        Index("ix_files_collection_id_name", "collection_id", "name", "id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    name: Mapped[str]
    content_type: Mapped[str]
    current_version: Mapped[int] = mapped_column(default=1, server_default="1")
    file_metadata: Mapped[JsonObject] = mapped_column(JSONB, default=dict, server_default="{}")
    visibility: Mapped[FileVisibility] = mapped_column(
        default=FileVisibility.PRIVATE, server_default="private"
    )


class Blob(IdMixin, Base):
    """Bytes in the storage, whose key is the id.

    The row is there before the bytes and until after them: whatever is stored is found here.

    Attributes:
        due_at: From when on the bytes may be removed: while they are written, some time ahead;
            None while a version has them.
        is_doomed: Whether removing them has begun: no version may have them any more.
    """

    __tablename__ = "blobs"
    __table_args__ = (
        Index("ix_blobs_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    due_at: Mapped[datetime | None]
    is_doomed: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class FileVersion(IdMixin, Base):
    """The content of a file at one time.

    Attributes:
        filter_execution_id: The call that approved this content, where a filter did. No foreign
            key: executions are purged, the version stays.
    """

    __tablename__ = "file_versions"
    __table_args__ = (UniqueConstraint("file_id", "version_number"),)

    file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    version_number: Mapped[int]
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blobs.id"), unique=True)
    content_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    hash_sha256: Mapped[str]
    uploaded_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    filter_execution_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
