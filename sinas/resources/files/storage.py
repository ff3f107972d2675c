"""The bytes of versions."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select

from sinas.context import AppContext
from sinas.models import FileVersion
from sinas.storage.base import ContentMissingError

Content: TypeAlias = Callable[[UUID, int], AsyncGenerator[bytes, None]]


def content_of(context: AppContext) -> Content:
    """How to read the content of a file's version, for whoever has seen that it may be read.

    Whoever does not read to the end closes the pieces: a file or a connection is open behind them.
    They raise ContentMissingError where file or version are gone, and StorageError.
    """

    async def pieces(file_id: UUID, version: int) -> AsyncGenerator[bytes, None]:
        statement = select(FileVersion.blob_id).where(
            FileVersion.file_id == file_id, FileVersion.version_number == version
        )
        async with context.statement_unit() as unit:
            blob_id = await unit.session.scalar(statement)
        if blob_id is None:
            raise ContentMissingError("The file, or this version of it, is gone.")
        async with aclosing(await context.storage.open(blob_id.hex)) as reading:
            async for piece in reading:
                yield piece

    return pieces
