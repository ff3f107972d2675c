"""Writing bytes so that a crash at any moment leaves none that nobody knows of, and loses none.

A row is committed before the first byte is written. It says from when on the bytes may be removed,
and whoever writes moves that time on. Storing a version takes the time away in the transaction
that makes the version; removing bytes begins with a mark that no version may have them any more,
and the row goes last.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, delete, func, select, update

from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import PayloadTooLargeError, UnavailableError
from sinas.kit.ids import uuid7
from sinas.models import Blob
from sinas.storage.base import StorageError

log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=120)
_RENEW_SECONDS: Final = 20.0
# A removal that did not end in this time is begun anew.
_REMOVAL: Final = timedelta(minutes=5)
_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Bytes that are in the storage, for now."""

    blob_id: UUID
    size_bytes: int
    sha256: str


class Draft:
    """What one upload writes. What it does not keep is removed when it ends."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._blobs: list[UUID] = []
        self._renewed = 0.0

    async def write(self, pieces: AsyncIterator[bytes], most_bytes: int) -> Written:
        """Write a content.

        Raises:
            PayloadTooLargeError: It has more than `most_bytes`.
            StorageError: It cannot be stored now.
        """
        blob_id = uuid7()
        async with self._context.statement_unit() as unit:
            unit.session.add(Blob(id=blob_id, due_at=func.now() + LEASE))
        self._blobs.append(blob_id)
        self._renewed = asyncio.get_running_loop().time()
        digest = hashlib.sha256()
        size = 0

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in pieces:
                size += len(piece)
                if size > most_bytes:
                    raise too_large(most_bytes)
                self._check_lease()
                digest.update(piece)
                yield piece

        await self._context.storage.write(blob_id.hex, measured())
        return Written(blob_id=blob_id, size_bytes=size, sha256=digest.hexdigest())

    async def keep(self, unit: Unit, written: Written) -> None:
        """In the transaction that makes the version: from its commit on the bytes stay.

        Raises:
            UnavailableError: It took so long that they are being removed.
        """
        kept = await unit.session.scalar(
            update(Blob)
            .where(Blob.id == written.blob_id, _living())
            .values(due_at=None)
            .returning(Blob.id)
        )
        if kept is None:
            raise UnavailableError("The upload was interrupted for too long; send it again.")
        unit.after_commit(lambda: self._forget(written.blob_id))

    async def _forget(self, blob_id: UUID) -> None:
        self._blobs.remove(blob_id)

    async def renew(self) -> None:
        """Say again and again that this one is alive."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
            except Exception:
                log.warning("files.renew_failed", exc_info=True)  # `_check_lease` will tell

    async def _renew(self) -> None:
        async with self._context.statement_unit() as unit:
            await unit.session.execute(
                update(Blob)
                .where(Blob.id.in_(self._blobs), Blob.due_at.is_not(None), _living())
                .values(due_at=func.now() + LEASE)
                .execution_options(synchronize_session=False)
            )
        self._renewed = asyncio.get_running_loop().time()

    async def discard(self) -> None:
        """Remove what was not kept."""
        if self._blobs:
            await remove(self._context, self._blobs)

    def _check_lease(self) -> None:
        """Not a byte more once others may think this one dead: a process can be stopped for long."""
        if asyncio.get_running_loop().time() - self._renewed > LEASE.total_seconds() / 2:
            raise StorageError("The upload was interrupted for too long; send it again.")


@asynccontextmanager
async def drafting(context: AppContext) -> AsyncIterator[Draft]:
    """A draft for the time of one upload."""
    draft = Draft(context)
    # No TaskGroup: it would wrap every error of an upload into a group.
    renewing = asyncio.get_running_loop().create_task(draft.renew())
    try:
        yield draft
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        try:
            await draft.discard()
        except Exception:
            # The sweep will; what the upload came to stands.
            log.warning("files.discard_failed", exc_info=True)


def too_large(most_bytes: int) -> PayloadTooLargeError:
    """The error for a content above the limit of its collection."""
    return PayloadTooLargeError(
        f"The file is larger than {most_bytes // 1024 // 1024} MiB, which the collection allows "
        "(max_file_size_mb)."
    )


async def doom(unit: Unit, blobs: Sequence[UUID]) -> None:
    """In the transaction that deletes versions: have their bytes removed after its commit."""
    await unit.session.execute(
        update(Blob)
        .where(Blob.id.in_(blobs))
        .values(due_at=func.now(), is_doomed=True)
        .execution_options(synchronize_session=False)
    )


async def remove(context: AppContext, blobs: Sequence[UUID]) -> None:
    """Remove bytes that no version has, then their rows; what cannot be removed now, the sweep does."""
    ours = update(Blob).where(Blob.id.in_(blobs), Blob.due_at.is_not(None))
    async with context.statement_unit() as unit:
        claimed = await unit.session.scalars(
            ours.values(due_at=func.now() + _REMOVAL, is_doomed=True).returning(Blob.id)
        )
        doomed = claimed.all()
    await _remove(context, doomed)


async def sweep(context: AppContext) -> None:
    """Remove what is due: of deleted files, and of uploads whose process died."""
    due = (
        select(Blob.id)
        .where(Blob.due_at <= func.now())
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
        .cte("due")  # once, whatever the plan
    )
    while True:
        async with context.unit() as unit:
            claimed = await unit.session.scalars(
                update(Blob)
                .where(Blob.id.in_(select(due.c.id)))
                .values(due_at=func.now() + _REMOVAL, is_doomed=True)
                .returning(Blob.id)
                .execution_options(synchronize_session=False)
            )
            doomed = claimed.all()
        await _remove(context, doomed)
        if len(doomed) < _BATCH:
            return


async def _remove(context: AppContext, doomed: Sequence[UUID]) -> None:
    gone = []
    for blob_id in doomed:
        try:
            await context.storage.delete(blob_id.hex)
        except StorageError as error:
            log.warning("files.remove_failed", blob_id=str(blob_id), error=error.message)
        else:
            gone.append(blob_id)
    if gone:
        async with context.statement_unit() as unit:
            await unit.session.execute(
                delete(Blob)
                .where(Blob.id.in_(gone), Blob.is_doomed)
                .execution_options(synchronize_session=False)
            )


def _living() -> ColumnElement[bool]:
    return Blob.is_doomed.is_(False)
