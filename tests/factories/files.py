"""Collections and files with their bytes."""

import hashlib
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.kit.ids import uuid7
from sinas.models import Blob, Collection, File, FileVersion, FileVisibility, User

_numbers = count(1)


async def make_collection(
    context: AppContext,
    owner: User,
    *,
    namespace: str = "default",
    name: str | None = None,
    **columns: Any,
) -> Collection:
    """A collection of `owner`."""
    async with context.unit() as unit:
        row = Collection(
            user_id=owner.id,
            namespace=namespace,
            name=name or f"collection_{next(_numbers)}",
            **columns,
        )
        unit.session.add(row)
    return row


async def make_file(
    context: AppContext,
    collection: Collection,
    owner: User,
    name: str | None = None,
    content: bytes = b"hello",
    *,
    content_type: str = "text/plain",
    visibility: FileVisibility = FileVisibility.PRIVATE,
    metadata: dict[str, Any] | None = None,
) -> File:
    """A file with one version."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    blob_id = uuid7()
    await context.storage.write(blob_id.hex, pieces())
    async with context.unit() as unit:
        unit.session.add(Blob(id=blob_id))
        row = File(
            user_id=owner.id,
            collection_id=collection.id,
            name=name or f"file_{next(_numbers)}.txt",
            content_type=content_type,
            visibility=visibility,
            file_metadata=metadata or {},
        )
        unit.session.add(row)
        await unit.session.flush()
        unit.session.add(
            FileVersion(
                file_id=row.id,
                version_number=1,
                blob_id=blob_id,
                content_type=content_type,
                size_bytes=len(content),
                hash_sha256=hashlib.sha256(content).hexdigest(),
                uploaded_by=owner.id,
            )
        )
        held = await unit.session.get_one(Collection, collection.id)
        held.stored_bytes += len(content)
    return row
