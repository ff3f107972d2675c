"""Rules of files: who finds, changes and deletes what."""

from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import ForbiddenError, NotFoundError
from sinas.kit.file_names import lookup_name
from sinas.kit.json_types import JsonObject
from sinas.models import Collection, File, FileVersion, FileVisibility
from sinas.resources.collections.service import collection_for
from sinas.resources.files.blobs import doom
from sinas.resources.files.describing import described, file_read
from sinas.resources.files.repository import Found, by_name, clashing, page, version_of, visible
from sinas.resources.files.schemas import FileRead, FileUrl
from sinas.resources.files.uploads import (
    check_match,
    check_metadata,
    count_bytes,
    lock,
    may_change,
)
from sinas.web.file_links import Links, within_limits


class FileService:
    """Files for one caller, each operation in short transactions of its own.

    Without `sees_all`, rights on everybody's files do not count: the caller's own and shared ones
    are all there is.
    """

    def __init__(self, context: AppContext, principal: Principal, *, sees_all: bool = True) -> None:
        self._context = context
        self._principal = principal
        self._sees_all = sees_all
        self._links = Links.of(context)

    async def find(
        self, namespace: str, name: str, filename: str, version: int | None = None
    ) -> Found:
        """A file to read: the caller's own, or a shared one; with `download:all`, anybody's.

        Raises:
            ForbiddenError: No right to read files of that collection.
            NotFoundError: No such collection, file or version.
        """
        async with self._context.statement_unit() as unit:
            collection = await collection_for(
                unit.session, self._principal, namespace, name, "download"
            )
            file = await self._file(unit.session, collection, filename, "download")
            found = await version_of(unit.session, file, version)
        if found is None:
            raise NotFoundError(f"File '{file.name}' has no version {version}")
        return Found(collection=collection, file=file, version=found)

    async def page(self, namespace: str, name: str, *, skip: int, limit: int) -> tuple[bytes, bool]:
        """Files by name with all their versions, as JSON, and whether there are more.

        Each is a `FileWithVersions`. Written directly: as models, ten thousand would hold everybody else up for half a second.

        Raises:
            ForbiddenError: No right to list files of that collection.
            NotFoundError: No such collection.
        """
        async with self._context.statement_unit() as unit:
            collection = await collection_for(
                unit.session, self._principal, namespace, name, "list"
            )
            condition = visible(self._principal, collection, "list")
            rows = await page(unit.session, collection, condition, skip=skip, limit=limit + 1)
        files = [
            described(self._links, collection, row) | {"versions": orjson.Fragment(row["versions"])}
            for row in rows[:limit]
        ]
        return orjson.dumps(files, default=str, option=orjson.OPT_UTC_Z), len(rows) > limit

    async def update_metadata(
        self,
        namespace: str,
        name: str,
        filename: str,
        metadata: JsonObject,
        if_match: str | None = None,
    ) -> FileRead:
        """Replace the metadata of a file.

        Raises:
            ForbiddenError: No right to upload there, or the file is somebody else's.
            NotFoundError: No such collection or file.
            BadRequestError: They break the collection's schema.
            PreconditionError: The file is not the one in `if_match`.
        """
        async with self._context.unit() as unit:
            collection = await self._locked(unit.session, namespace, name, "upload")
            file = await self._changeable(unit.session, collection, filename, "upload")
            await check_match(unit.session, file, if_match)
            await check_metadata(collection, metadata)
            file.file_metadata = metadata
            await unit.session.flush()  # for the time that the database gives it
            await unit.session.refresh(file)
        return file_read(self._links, collection, file)

    async def delete(
        self, namespace: str, name: str, filename: str, if_match: str | None = None
    ) -> None:
        """Delete a file with all its versions.

        Raises:
            ForbiddenError: No right to delete files there, or the file is somebody else's.
            NotFoundError: No such collection or file.
            PreconditionError: The file is not the one in `if_match`.
        """
        async with self._context.unit() as unit:
            collection = await self._locked(unit.session, namespace, name, "delete_files")
            file = await self._changeable(unit.session, collection, filename, "delete_files")
            await check_match(unit.session, file, if_match)
            gone = await unit.session.execute(
                delete(FileVersion)
                .where(FileVersion.file_id == file.id)
                .returning(FileVersion.blob_id, FileVersion.size_bytes)
            )
            versions = gone.all()
            await doom(unit, [one.blob_id for one in versions])
            await count_bytes(unit.session, collection, -sum(one.size_bytes for one in versions))
            await unit.session.delete(file)

    async def url(
        self, namespace: str, name: str, filename: str, version: int | None, expires_in: int
    ) -> FileUrl:
        """An address that works without signing in.

        Raises:
            ForbiddenError: No right to read files of that collection.
            NotFoundError: No such collection, file or version.
        """
        found = await self.find(namespace, name, filename, version)
        seconds = within_limits(expires_in)
        number = found.version.version_number
        return FileUrl(
            url=self._links.temporary(found.file.id, number, timedelta(seconds=seconds)),
            filename=found.file.name,
            content_type=found.version.content_type,
            version=number,
            expires_in=seconds,
        )

    async def _locked(
        self, session: AsyncSession, namespace: str, name: str, action: str
    ) -> Collection:
        collection = await collection_for(session, self._principal, namespace, name, action)
        return await lock(session, collection)

    async def _changeable(
        self, session: AsyncSession, collection: Collection, filename: str, action: str
    ) -> File:
        file = await self._file(session, collection, filename, action)
        if not may_change(self._principal, collection, file, action):
            raise ForbiddenError(f"'{file.name}' is a shared file of somebody else.")
        return file

    async def _file(
        self, session: AsyncSession, collection: Collection, filename: str, action: str
    ) -> File:
        condition = (
            visible(self._principal, collection, action)
            if self._sees_all
            else clashing(FileVisibility.PRIVATE, self._principal.user_id)
        )
        wanted = by_name(self._principal, collection, lookup_name(filename), condition)
        file = await session.scalar(wanted.limit(1))
        if file is None:
            where = f"{collection.namespace}/{collection.name}"
            raise NotFoundError(f"File '{filename}' not found in '{where}'")
        return file


class OpenFiles:
    """Files for whoever has their address."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._links = Links.of(context)

    async def by_token(self, token: str) -> tuple[File, FileVersion]:
        """The version that a temporary address is for.

        Raises:
            UnauthenticatedError: The token is forged or has expired.
            NotFoundError: The file is gone.
        """
        file_id, number = self._links.read(token)
        statement = (
            select(File, FileVersion)
            .join(FileVersion, FileVersion.file_id == File.id)
            .where(File.id == file_id, FileVersion.version_number == number)
        )
        return await self._one(statement)

    async def public(self, namespace: str, name: str, filename: str) -> tuple[File, FileVersion]:
        """The current version of a shared file of a public collection.

        Raises:
            NotFoundError: There is none.
        """
        statement = (
            select(File, FileVersion)
            .join(Collection, Collection.id == File.collection_id)
            .join(FileVersion, FileVersion.file_id == File.id)
            .where(
                Collection.namespace == namespace,
                Collection.name == name,
                Collection.is_public,
                File.name == lookup_name(filename),
                File.visibility == FileVisibility.SHARED,
                FileVersion.version_number == File.current_version,
            )
        )
        return await self._one(statement)

    async def _one(self, statement: Any) -> tuple[File, FileVersion]:
        async with self._context.statement_unit() as unit:
            row = (await unit.session.execute(statement)).first()
        if row is None:
            raise NotFoundError("File not found")
        return row[0], row[1]
