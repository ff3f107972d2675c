"""Rules of collections."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from sinas.auth.principal import Principal
from sinas.crud.service import CrudService
from sinas.errors import NotFoundError
from sinas.models import Collection
from sinas.resources.collections.repository import CollectionRepository
from sinas.resources.collections.schemas import CollectionCreate, CollectionUpdate

_FUNCTIONS = ("content_filter_function", "post_upload_function")


class CollectionService(CrudService[Collection, CollectionCreate, CollectionUpdate]):
    """Operations on collections, for one caller. Deleting one deletes everybody's files in it."""

    repository = CollectionRepository
    noun = "collection"
    rows: CollectionRepository

    async def listed(self, namespace: str | None, *, skip: int, limit: int) -> Sequence[Collection]:
        """Collections the caller may read, newest first; of one namespace if told."""
        return await self.rows.listed(namespace, skip=skip, limit=limit)

    async def discover(self, *, skip: int, limit: int) -> Sequence[Collection]:
        """Collections the caller may read, by name."""
        return await self.rows.by_names(skip=skip, limit=limit)

    @override
    async def check(self, values: dict[str, Any], row: Collection | None) -> None:
        # It will run as others, with their rights: at least its author must be one who may run it.
        for field in _FUNCTIONS:
            function = values.get(field)
            if function is not None and (row is None or function != getattr(row, field)):
                self.principal.require(f"sinas.functions/{function}.execute:own")

    @override
    async def before_delete(self, row: Collection) -> None:
        await self.rows.give_up_contents(row.id)


async def collection_for(
    session: AsyncSession, principal: Principal, namespace: str, name: str, action: str
) -> Collection:
    """A collection, whoever owns it, for a caller who may do `action` with files in it.

    The right is asked before the collection is looked up, so that a refusal tells nothing about it.

    Raises:
        ForbiddenError: No such right.
        NotFoundError: No such collection.
    """
    principal.require(f"sinas.collections/{namespace}/{name}.{action}:own")
    statement = select(Collection).where(Collection.namespace == namespace, Collection.name == name)
    row = await session.scalar(statement)
    if row is None:
        raise NotFoundError(f"Collection '{namespace}/{name}' not found")
    return row
