"""Search as one caller: which collection, and which of its files they may see."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, true

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import NotFoundError
from sinas.models import Collection, File, FileIndex, FileVisibility, IndexStatus
from sinas.resources.files.search_queries import Scope
from sinas.resources.files.search_schemas import FileIndexRead, FileSearchRequest
from sinas.resources.files.search_service import Content, FileSearch, Found


def own_or_shared(user_id: UUID) -> ColumnElement[bool]:
    """SQL: the files of a collection that a user sees."""
    return or_(File.user_id == user_id, File.visibility == FileVisibility.SHARED)


class CollectionSearch:
    """Search for one caller.

    The right is asked before the collection is looked up, so that a refusal tells nothing about it.
    """

    def __init__(self, context: AppContext, principal: Principal, content: Content) -> None:
        self._context = context
        self._principal = principal
        self._search = FileSearch(context, content)

    async def find(self, namespace: str, name: str, wanted: FileSearchRequest) -> Sequence[Found]:
        """The caller's own and shared files that match; with `list:all`, everybody's.

        Raises:
            ForbiddenError: No right to list files of that collection.
            NotFoundError: No such collection.
            BadRequestError: The query is no regular expression.
            UnavailableError: Search by meaning is off, or its model does not answer.
            DeadlineError: It takes too long.
        """
        scope = await self._scope(namespace, name, wanted)
        return await self._search.find(scope, wanted)

    async def index(self, namespace: str, name: str, filename: str) -> FileIndexRead:
        """How a file's index stands.

        Raises:
            ForbiddenError: No right to list files of that collection.
            NotFoundError: No such collection, or no such file among those the caller sees.
        """
        scope = await self._scope(namespace, name, FileSearchRequest())
        statement = (
            select(File.current_version, FileIndex)
            .outerjoin(FileIndex, FileIndex.file_id == File.id)
            .where(scope.files(), File.name == filename)
            # Names are each visibility's own: the caller's file before a shared one.
            .order_by((File.user_id == self._principal.user_id).desc())
            .limit(1)
        )
        async with self._context.statement_unit() as unit:
            row = (await unit.session.execute(statement)).first()
        if row is None:
            raise NotFoundError(f"File '{filename}' not found in '{namespace}/{name}'")
        version, index = row
        is_there: bool = index is not None
        if not is_there or index.version != version:
            return FileIndexRead(
                status=IndexStatus.PENDING,
                version=version,
                error=None,
                is_whole=True,
                chunk_count=0,
                indexed_at=None,
            )
        return FileIndexRead.model_validate(index)

    async def _scope(self, namespace: str, name: str, wanted: FileSearchRequest) -> Scope:
        permission = f"sinas.collections/{namespace}/{name}.list"
        self._principal.require(f"{permission}:own")
        statement = select(Collection.id).where(
            Collection.namespace == namespace, Collection.name == name
        )
        async with self._context.statement_unit() as unit:
            collection_id = await unit.session.scalar(statement)
        if collection_id is None:
            raise NotFoundError(f"Collection '{namespace}/{name}' not found")
        sees_all = self._principal.can(f"{permission}:all")
        return Scope(
            collection_id=collection_id,
            visible=true() if sees_all else own_or_shared(self._principal.user_id),
            metadata_filter=wanted.metadata_filter,
        )
