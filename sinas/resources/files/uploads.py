"""Storing a content as a file: the one way in, for requests and for agents."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.db.unit import Unit
from sinas.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    PayloadTooLargeError,
    PreconditionError,
)
from sinas.kit.file_names import another_name
from sinas.kit.http_ranges import matches
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import compile_schema
from sinas.kit.media_types import fits
from sinas.models import Collection, File, FileVersion, FileVisibility
from sinas.resources.collections.service import collection_for
from sinas.resources.files.blobs import Draft, Written, too_large
from sinas.resources.files.functions import Approved, ContentFilter, Upload, tell_of_upload
from sinas.resources.files.index_jobs import index_soon
from sinas.resources.files.repository import by_name, clashing, version_of

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContent:
    """What is to be stored, besides the content itself.

    Attributes:
        metadata: None to leave those of a file that gets a new version.
        if_match: Entity tags (RFC 9110), one of which the version to be replaced must have.
    """

    name: str
    content_type: str
    visibility: FileVisibility = FileVisibility.PRIVATE
    metadata: JsonObject | None = None
    update_existing: bool = False
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A version that was made."""

    collection: Collection
    file: File
    version: FileVersion


def etag(version: FileVersion) -> str:
    """The strong entity tag of a version's content."""
    return f'"{version.hash_sha256}"'


class FileUploads:
    """Uploads of one caller. No transaction is open while bytes move or a function runs."""

    def __init__(self, context: AppContext, principal: Principal) -> None:
        self._context = context
        self._principal = principal

    async def open(self, namespace: str, name: str, announced_bytes: int = 0) -> Collection:
        """The collection to upload to.

        Raises:
            ForbiddenError: No right to upload there.
            NotFoundError: No such collection.
            PayloadTooLargeError: What is announced is more than it takes.
        """
        async with self._context.statement_unit() as unit:
            collection = await collection_for(
                unit.session, self._principal, namespace, name, "upload"
            )
        most = collection.max_file_size_mb * _MIB
        if announced_bytes > most:
            raise too_large(most)
        if collection.stored_bytes + announced_bytes > collection.max_total_size_gb * _GIB:
            raise _full(collection)
        return collection

    async def write(
        self, draft: Draft, collection: Collection, pieces: AsyncIterator[bytes]
    ) -> Written:
        """Bring the bytes into the storage, where nobody sees them yet.

        Raises:
            PayloadTooLargeError: They are more than the collection takes.
            StorageError: They cannot be stored now.
        """
        return await draft.write(pieces, collection.max_file_size_mb * _MIB)

    async def store(
        self, draft: Draft, collection: Collection, written: Written, new: NewContent
    ) -> Stored:
        """Check what was written, have it approved, and make it a version of a file.

        Raises:
            BadRequestError: The collection's rules or its filter refuse it.
            FilterFailedError: The filter gives no answer.
            ForbiddenError: The file to replace is somebody else's.
            ConflictError: The collection's rules changed meanwhile, or no name is free.
            PreconditionError: The version to be replaced is not the one in `if_match`.
            PayloadTooLargeError: The collection is full.
            NotFoundError: The collection was deleted meanwhile.
        """
        _check_rules(collection, new)
        if new.metadata is not None or not new.update_existing:
            await check_metadata(collection, new.metadata or {})
        filter_ = ContentFilter(self._context, self._principal, collection)
        upload = Upload(name=new.name, content_type=new.content_type, metadata=new.metadata or {})
        approved = await filter_.ask(draft, written, upload)
        async with self._context.unit() as unit:
            place = await _reserve(unit.session, collection, approved.written.size_bytes)
            # Before the version that refers to them: they may be gone.
            await draft.keep(unit, approved.written)
            stored = await self._commit(unit, collection, place, approved, new)
            await tell_of_upload(
                self._context,
                unit,
                self._principal,
                stored.collection,
                stored.file,
                stored.version,
            )
        return stored

    async def _commit(
        self,
        unit: Unit,
        before: Collection,
        collection: Collection,
        approved: Approved,
        new: NewContent,
    ) -> Stored:
        if collection.content_filter_function != before.content_filter_function:
            raise ConflictError("The collection's content filter changed meanwhile; upload again.")
        _check_rules(collection, new)
        file = await self._existing(unit.session, collection, new)
        if file is None:
            file = await self._new_file(unit.session, collection, approved, new)
        else:
            await _change(collection, file, approved, new)
        version = FileVersion(
            file_id=file.id,
            version_number=file.current_version,
            blob_id=approved.written.blob_id,
            content_type=new.content_type,
            size_bytes=approved.written.size_bytes,
            hash_sha256=approved.written.sha256,
            uploaded_by=self._principal.user_id,
            filter_execution_id=approved.execution_id,
        )
        unit.session.add(version)
        # Now, for the times that the database gives them.
        await unit.session.flush()
        await unit.session.refresh(file)
        await unit.session.refresh(version)
        await index_soon(unit, file.id)
        return Stored(collection=collection, file=file, version=version)

    async def _existing(
        self, session: AsyncSession, collection: Collection, new: NewContent
    ) -> File | None:
        """The file that gets the new version; None for a new file."""
        if not new.update_existing:
            return None
        among = clashing(new.visibility, self._principal.user_id)
        file = await session.scalar(by_name(self._principal, collection, new.name, among).limit(1))
        if file is not None and not may_change(self._principal, collection, file, "upload"):
            raise ForbiddenError(
                f"'{file.name}' is a shared file of somebody else; upload it under another name."
            )
        await check_match(session, file, new.if_match)
        return file

    async def _new_file(
        self, session: AsyncSession, collection: Collection, approved: Approved, new: NewContent
    ) -> File:
        await check_match(session, None, new.if_match)
        metadata = (new.metadata or {}) | approved.metadata
        await check_metadata(collection, metadata)
        file = File(
            collection_id=collection.id,
            user_id=self._principal.user_id,
            name=await self._free_name(session, collection, new),
            content_type=new.content_type,
            current_version=1,
            file_metadata=metadata,
            visibility=new.visibility,
        )
        session.add(file)
        await session.flush()  # its id, for the version
        return file

    async def _free_name(
        self, session: AsyncSession, collection: Collection, new: NewContent
    ) -> str:
        among = clashing(new.visibility, self._principal.user_id)
        for name in (new.name, another_name(new.name)):
            taken = by_name(self._principal, collection, name, among).with_only_columns(File.id)
            if await session.scalar(taken.limit(1)) is None:
                return name
        raise ConflictError(f"The name '{new.name}' is taken; choose another one.")


async def _change(collection: Collection, file: File, approved: Approved, new: NewContent) -> None:
    given = file.file_metadata if new.metadata is None else new.metadata
    metadata = given | approved.metadata
    if metadata != file.file_metadata:
        await check_metadata(collection, metadata)
    file.file_metadata = metadata
    file.content_type = new.content_type
    file.current_version += 1


def may_change(principal: Principal, collection: Collection, file: File, action: str) -> bool:
    """Whether the caller may do `action` to a file they see: it is theirs, or they may to all."""
    if file.user_id == principal.user_id:
        return True
    return principal.can(f"sinas.collections/{collection.namespace}/{collection.name}.{action}:all")


async def check_match(session: AsyncSession, file: File | None, if_match: str | None) -> None:
    """Make sure that a file still is what the caller took it for.

    Raises:
        PreconditionError: It is not.
    """
    if if_match is None:
        return
    current = None if file is None else await version_of(session, file, None)
    if current is None or not matches(if_match, etag(current), weak=False):
        raise PreconditionError("The file has changed; get it again before you change it.")


async def check_metadata(collection: Collection, metadata: JsonObject) -> None:
    """Make sure that metadata keep the collection's schema.

    Raises:
        BadRequestError: They do not.
    """
    if not collection.metadata_schema:
        return
    schema = compile_schema(collection.metadata_schema)
    # A thread: schema and value are users', and may take a second.
    violations = await asyncio.to_thread(schema.violations, metadata)
    if violations:
        errors = [
            FieldError(".".join(("file_metadata", *map(str, one.path))), one.message)
            for one in violations
        ]
        raise BadRequestError(
            f"The metadata break the collection's schema: {errors[0].field}: {errors[0].message}",
            errors,
        )


async def lock(session: AsyncSession, collection: Collection) -> Collection:
    """Lock a collection, before anything of its files: who changes them goes one by one.

    Raises:
        NotFoundError: It was deleted meanwhile.
    """
    row = await session.scalar(
        select(Collection)
        .where(Collection.id == collection.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFoundError(f"Collection '{collection.namespace}/{collection.name}' not found")
    return row


async def count_bytes(session: AsyncSession, collection: Collection, more: int) -> None:
    """Add to what a locked collection's files have together."""
    await session.execute(
        update(Collection)
        .where(Collection.id == collection.id)
        # By hand, to leave `updated_at` alone: nothing of the collection itself changes.
        .values(stored_bytes=Collection.stored_bytes + more, updated_at=Collection.updated_at)
        .execution_options(synchronize_session=False)
    )


async def _reserve(session: AsyncSession, collection: Collection, size: int) -> Collection:
    row = await lock(session, collection)
    if size > row.max_file_size_mb * _MIB:
        raise too_large(row.max_file_size_mb * _MIB)
    if row.stored_bytes + size > row.max_total_size_gb * _GIB:
        raise _full(row)
    await count_bytes(session, row, size)
    return row


def _check_rules(collection: Collection, new: NewContent) -> None:
    allowed = {
        FileVisibility.PRIVATE: collection.allow_private_files,
        FileVisibility.SHARED: collection.allow_shared_files,
    }
    if not allowed[new.visibility]:
        message = f"The collection takes no {new.visibility} files."
        raise BadRequestError(message, [FieldError("visibility", message)])
    if not fits(new.content_type, collection.allowed_content_types):
        types = ", ".join(collection.allowed_content_types)
        message = f"The collection takes no '{new.content_type}', only {types}."
        raise BadRequestError(message, [FieldError("content_type", message)])


def _full(collection: Collection) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The collection '{collection.namespace}/{collection.name}' is full: all versions of all "
        f"files may have {collection.max_total_size_gb} GiB together (max_total_size_gb). Delete "
        "some files."
    )
