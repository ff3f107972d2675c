"""What search knows of files: their text, and the chunks of it."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Computed, ForeignKey, Index, literal_column, text
from sqlalchemy.dialects.postgresql import REGCONFIG, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from sinas.db.base import Base
from sinas.db.types import HalfVec
from sinas.settings.search import VECTOR_DIMENSIONS


class IndexStatus(StrEnum):
    """How far a file's index is.

    `failed` is tried again; `skipped` has no text, or none that can be read.
    """

    PENDING = "pending"
    INDEXED = "indexed"
    SKIPPED = "skipped"
    FAILED = "failed"


class FileIndex(Base):
    """The text of a file's version, and how its index stands. Goes with its file.

    Attributes:
        version: Which version `text` and the chunks are of.
        signature: What made them: readers, language, model. Another one makes them anew.
        error: Why it is skipped or failed, as a sentence.
        attempts: How often indexing was begun since it last succeeded.
        due_at: When a worker may begin; while one works, when others may think it dead.
        text: All of it that is searched; None where there is none.
        is_file_text: Whether lines of `text` are lines of the file.
        is_whole: Whether nothing was cut off.
        char_count: Of `text`.
        chunk_count: How many chunks there are.
    """

    __tablename__ = "file_indexes"
    __table_args__ = (
        Index("ix_file_indexes_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_file_indexes_signature", "signature"),
    )

    file_id: Mapped[UUID] = mapped_column(
        ForeignKey("files.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int]
    signature: Mapped[str]
    status: Mapped[IndexStatus]
    error: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    due_at: Mapped[datetime | None]
    text: Mapped[str | None] = mapped_column(deferred=True)
    char_count: Mapped[int] = mapped_column(default=0, server_default="0")
    is_file_text: Mapped[bool] = mapped_column(default=False, server_default="false")
    is_whole: Mapped[bool] = mapped_column(default=True, server_default="true")
    chunk_count: Mapped[int] = mapped_column(default=0, server_default="0")
    indexed_at: Mapped[datetime | None]


class FileChunk(Base):
    """A piece of a file's text.

    Attributes:
        number: From 0, in the order of the text.
        collection_id: The file's, repeated so that one index finds a collection's chunks.
        language: Whose word forms `words` has, besides the words as they are.
        model: What made `embedding`; None while it has none.
    """

    __tablename__ = "file_chunks"
    __table_args__ = (
        Index("ix_file_chunks_collection_id", "collection_id"),
        Index("ix_file_chunks_words", "words", postgresql_using="gin"),
        *(
            Index(
                f"ix_file_chunks_embedding_{size}",
                literal_column(f"(embedding::halfvec({size}))").label("sized"),
                postgresql_using="hnsw",
                postgresql_ops={"sized": "halfvec_ip_ops"},
                postgresql_where=text(f"vector_dims(embedding) = {size}"),
            )
            for size in VECTOR_DIMENSIONS
        ),
    )

    file_id: Mapped[UUID] = mapped_column(
        ForeignKey("files.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    headings: Mapped[str]
    content: Mapped[str]
    page: Mapped[int | None]
    start: Mapped[int]
    end: Mapped[int]
    first_line: Mapped[int]
    last_line: Mapped[int]
    language: Mapped[str] = mapped_column(REGCONFIG)
    words: Mapped[str] = mapped_column(
        TSVECTOR,
        Computed(
            "to_tsvector('simple'::regconfig, headings || ' ' || content) || "
            "to_tsvector(language, headings || ' ' || content)",
            persisted=True,
        ),
        deferred=True,
    )
    model: Mapped[str | None]
    embedding: Mapped[Sequence[float] | None] = mapped_column(HalfVec, deferred=True)
