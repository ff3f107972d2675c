"""Rows of collections."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update

from sinas.crud.repository import Repository
from sinas.models import Blob, Collection, File, FileVersion


class CollectionRepository(Repository[Collection]):
    """Collections, as one caller may see them."""

    model = Collection
    resource = "collections"

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Collection]:
        """Readable ones, newest first."""
        statement = self.visible().order_by(Collection.created_at.desc(), Collection.id.desc())
        if namespace is not None:
            statement = statement.where(Collection.namespace == namespace)
        return await self.page(statement, skip=skip, limit=limit)

    async def by_names(self, *, skip: int, limit: int) -> Sequence[Collection]:
        """Readable ones, by name."""
        statement = self.visible().order_by(Collection.namespace, Collection.name)
        return await self.page(statement, skip=skip, limit=limit)

    async def give_up_contents(self, collection_id: UUID) -> None:
        """Lock the collection, and have the bytes of its files removed after this transaction."""
        await self.session.execute(
            select(Collection.id).where(Collection.id == collection_id).with_for_update()
        )
        contents = (
            select(FileVersion.blob_id)
            .join(File, File.id == FileVersion.file_id)
            .where(File.collection_id == collection_id)
        )
        await self.session.execute(
            update(Blob)
            .where(Blob.id.in_(contents))
            .values(due_at=func.now(), is_doomed=True)
            .execution_options(synchronize_session=False)
        )
