"""What the routes of files depend on."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header

from sinas.auth.principal import Principal
from sinas.resources.files.service import FileService
from sinas.resources.files.uploads import FileUploads
from sinas.web.deps import Context, permitted


def files_for(action: str) -> Callable[..., Awaitable[FileService]]:
    """A dependency: files for a caller who may do `action` in some collection.

    Without a transaction for the whole request: contents may take long.
    """
    check = permitted("collections", action)

    async def build(
        context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> FileService:
        return FileService(context, principal)

    return build


async def _uploads(
    context: Context, principal: Annotated[Principal, Depends(permitted("collections", "upload"))]
) -> FileUploads:
    return FileUploads(context, principal)


Uploads = Annotated[FileUploads, Depends(_uploads)]
IfMatch = Annotated[
    str | None,
    Header(
        description="Entity tags of versions (their `hash_sha256` in quotes): the operation fails "
        "with 412 unless the file's current one is among them."
    ),
]
