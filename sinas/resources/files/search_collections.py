"""Search as one caller: which collection, and which of its files they may see."""

from collections.abc import Sequence

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import NotFoundError
from sinas.kit.file_names import lookup_name
from sinas.models import FileIndex, IndexStatus
from sinas.resources.collections.service import collection_for
from sinas.resources.files.repository import by_name, visible
from sinas.resources.files.search_queries import Scope
from sinas.resources.files.search_schemas import FileIndexRead, FileSearchRequest
from sinas.resources.files.search_service import FileSearch, Found
from sinas.resources.files.storage import Content


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
        async with self._context.statement_unit() as unit:
            collection = await collection_for(
                unit.session, self._principal, namespace, name, "list"
            )
            seen = visible(self._principal, collection, "list")
            wanted = by_name(self._principal, collection, lookup_name(filename), seen)
            file = await unit.session.scalar(wanted.limit(1))
            if file is None:
                raise NotFoundError(f"File '{filename}' not found in '{namespace}/{name}'")
            index = await unit.session.get(FileIndex, file.id)
        if index is None or index.version != file.current_version:
            return FileIndexRead(
                status=IndexStatus.PENDING,
                version=file.current_version,
                error=None,
                is_whole=True,
                chunk_count=0,
                indexed_at=None,
            )
        return FileIndexRead.model_validate(index)

    async def _scope(self, namespace: str, name: str, wanted: FileSearchRequest) -> Scope:
        async with self._context.statement_unit() as unit:
            collection = await collection_for(
                unit.session, self._principal, namespace, name, "list"
            )
        return Scope(
            collection_id=collection.id,
            visible=visible(self._principal, collection, "list"),
            metadata_filter=wanted.metadata_filter,
        )
