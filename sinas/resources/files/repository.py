"""SQL of files: each statement sees only what its caller may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, func, or_, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.models import Collection, File, FileVersion, FileVisibility

_ISO: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
_IS_SHARED = File.visibility == FileVisibility.SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file, one of its versions, and where it is."""

    collection: Collection
    file: File
    version: FileVersion


def own_or_shared(user_id: UUID) -> ColumnElement[bool]:
    """SQL: the files of a collection that a user sees."""
    return or_(File.user_id == user_id, _IS_SHARED)


def visible(principal: Principal, collection: Collection, action: str) -> ColumnElement[bool]:
    """SQL: the caller's own files and shared ones; with `action` on all, everybody's."""
    name = f"{collection.namespace}/{collection.name}"
    if principal.can(f"sinas.collections/{name}.{action}:all"):
        return true()
    return own_or_shared(principal.user_id)


def by_name(
    principal: Principal, collection: Collection, name: str, condition: ColumnElement[bool]
) -> Select[File]:
    """The files of a name: private before shared, the caller's own before others'."""
    is_own = File.user_id == principal.user_id
    order = case(
        (and_(is_own, File.visibility == FileVisibility.PRIVATE), 0), (is_own, 1), (_IS_SHARED, 2)
    )
    return (
        select(File)
        .where(File.collection_id == collection.id, File.name == name, condition)
        .order_by(order, File.created_at, File.id)
    )


def clashing(visibility: FileVisibility, user_id: UUID) -> ColumnElement[bool]:
    """SQL: files that a new one of that visibility and owner may not share its name with."""
    if visibility is FileVisibility.SHARED:
        return _IS_SHARED
    return own_or_shared(user_id)


async def version_of(session: AsyncSession, file: File, number: int | None) -> FileVersion | None:
    """A version of a file, the current one if none is named."""
    wanted = file.current_version if number is None else number
    return await session.scalar(
        select(FileVersion).where(
            FileVersion.file_id == file.id, FileVersion.version_number == wanted
        )
    )


async def page(
    session: AsyncSession,
    collection: Collection,
    condition: ColumnElement[bool],
    *,
    skip: int,
    limit: int,
) -> Sequence[Any]:
    """Files by name, each with the text of its versions' JSON: one statement, however many."""
    columns = FileVersion.__table__.columns
    fields: list[Any] = [
        part
        for column in columns
        if column.name not in ("blob_id", "created_at")
        for part in (column.name, column)
    ]
    # As the rest of an answer has its times.
    created_at = func.to_char(func.timezone("UTC", FileVersion.created_at), _ISO)
    one = func.jsonb_build_object(*fields, "created_at", created_at)
    own = (column for column in File.__table__.columns if column.name != "collection_id")
    # Cut to the page first: versions of files that are skipped would be gathered, too.
    files = (
        select(*own)
        .where(File.collection_id == collection.id, condition)
        .order_by(File.name, File.id)
        .offset(skip)
        .limit(limit)
        .subquery()
    )
    versions = (
        select(cast(func.jsonb_agg(aggregate_order_by(one, FileVersion.version_number)), Text))
        .where(FileVersion.file_id == files.c.id)
        .scalar_subquery()
    )
    statement = select(files, versions.label("versions")).order_by(files.c.name, files.c.id)
    return (await session.execute(statement)).mappings().all()
