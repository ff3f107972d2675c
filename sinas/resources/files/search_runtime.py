"""Runtime operations of search in files."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from sinas.auth.principal import Principal
from sinas.resources.files.search_collections import CollectionSearch
from sinas.resources.files.search_schemas import FileIndexRead, FileSearchRequest, FileSearchResult
from sinas.resources.files.search_service import Found
from sinas.resources.files.storage import content_of
from sinas.web.deps import CREDENTIALS, Context, permitted
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(tags=["files"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS)


async def _search(
    context: Context, principal: Annotated[Principal, Depends(permitted("collections", "list"))]
) -> CollectionSearch:
    # Without a transaction for the whole request: a model may be asked in between.
    return CollectionSearch(context, principal, content_of(context))


Search = Annotated[CollectionSearch, Depends(_search)]


@router.post("/files/{namespace}/{collection}/search", response_model=list[FileSearchResult])
async def search_files(
    namespace: str, collection: str, data: FileSearchRequest, search: Search
) -> Sequence[Found]:
    """Find files of a collection: by a regular expression, by name, by words, or by meaning."""
    return await search.find(namespace, collection, data)


@router.get("/files/{namespace}/{collection}/{filename}/index")
async def get_file_index(
    namespace: str, collection: str, filename: str, search: Search
) -> FileIndexRead:
    """See whether a file can be found by its text yet, and why not."""
    return await search.index(namespace, collection, filename)
