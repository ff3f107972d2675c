"""Runtime operations of files."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from sinas.crud.schema import SkipQuery
from sinas.errors import BadRequestError
from sinas.resources.files.blobs import drafting
from sinas.resources.files.dependencies import IfMatch, Uploads, files_for
from sinas.resources.files.describing import uploaded
from sinas.resources.files.incoming import FormIncoming, Incoming, JsonIncoming
from sinas.resources.files.schemas import (
    FileDownload,
    FileForm,
    FileMetadataUpdate,
    FileRead,
    FileUpload,
    FileUrl,
    FileWithVersions,
)
from sinas.resources.files.service import FileService, OpenFiles
from sinas.resources.files.serving import as_json, raw
from sinas.resources.files.uploads import NewContent
from sinas.web.deps import CREDENTIALS, Context
from sinas.web.file_links import DEFAULT_SECONDS, Links
from sinas.web.problems import PROBLEM_RESPONSES

router = APIRouter(
    prefix="/files", tags=["files"], responses=PROBLEM_RESPONSES, dependencies=CREDENTIALS
)
open_router = APIRouter(prefix="/files", tags=["files"], responses=PROBLEM_RESPONSES)

Upload = Annotated[FileService, Depends(files_for("upload"))]
Download = Annotated[FileService, Depends(files_for("download"))]
Listing = Annotated[FileService, Depends(files_for("list"))]
Delete = Annotated[FileService, Depends(files_for("delete_files"))]
Version = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Left out, the current version.")
]
FileLimit = Annotated[
    int,
    Query(ge=1, le=10_000, description="Files at most; with more, `X-Truncated: true` is sent."),
]

_MIB: Final = 1024 * 1024
# The largest file that any collection takes, in base64, and what is around it.
_MOST_BODY_BYTES: Final = 1000 * _MIB * 4 // 3 + 2 * _MIB
_PRIVATE_CACHE: Final = "private, max-age=300"
_PUBLIC_CACHE: Final = "public, max-age=3600"
_BINARY: Final[dict[str, Any]] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}
_CONTENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The content.", "content": _BINARY},
    206: {"description": "The part of it that `Range` asks for.", "content": _BINARY},
    304: {"description": "The client has it already."},
    416: {"description": "It has no such part."},
}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """For an operation that reads its body itself; answers bring the types it refers to."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


@open_router.get("/serve/{token}", response_class=Response, responses=_CONTENT)
async def serve_file(token: str, request: Request, context: Context) -> Response:
    """Get the content that a temporary address is for.

    What a browser could run is sent as a download of bytes, under a policy that lets it do nothing.
    `Range`, `If-None-Match` and their like are understood.
    """
    file, version = await OpenFiles(context).by_token(token)
    return await raw(context, request, file, version, _PRIVATE_CACHE)


@open_router.get(
    "/public/{namespace}/{collection}/{filename}", response_class=Response, responses=_CONTENT
)
async def get_public_file(
    namespace: str, collection: str, filename: str, request: Request, context: Context
) -> Response:
    """Get the content of a shared file of a public collection; served as temporary addresses are."""
    file, version = await OpenFiles(context).public(namespace, collection, filename)
    return await raw(context, request, file, version, _PUBLIC_CACHE)


@router.post(
    "/{namespace}/{collection}",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _schema(FileUpload)},
                "multipart/form-data": {"schema": _schema(FileForm)},
            },
        }
    },
)
async def upload_file(
    namespace: str,
    collection: str,
    request: Request,
    context: Context,
    uploads: Uploads,
    if_match: IfMatch = None,
) -> FileRead:
    """Upload a file: in JSON with base64, or as a form, which takes less.

    Neither is ever in memory as a whole. Where the collection has a content filter, the file is
    stored once that approved it, and as it approved it.
    """
    request.scope["body_limit"] = _MOST_BODY_BYTES
    incoming, announced = _incoming(request)
    place = await uploads.open(namespace, collection, announced)
    async with drafting(context) as draft:
        written = await uploads.write(draft, place, incoming.pieces())
        fields, has_metadata = incoming.fields()
        new = NewContent(
            name=fields.name,
            content_type=fields.content_type,
            visibility=fields.visibility,
            metadata=fields.file_metadata if has_metadata else None,
            update_existing=fields.update_existing,
            if_match=if_match,
        )
        stored = await uploads.store(draft, place, written, new)
    return uploaded(Links.of(context), stored)


@router.get(
    "/{namespace}/{collection}",
    response_class=Response,
    responses={200: {"model": list[FileWithVersions]}},
)
async def list_files(
    namespace: str,
    collection: str,
    files: Listing,
    skip: SkipQuery = 0,
    limit: FileLimit = 10_000,
) -> Response:
    """List your files and shared ones by name, with their versions."""
    found, has_more = await files.page(namespace, collection, skip=skip, limit=limit)
    headers = {"X-Truncated": "true"} if has_more else {}
    return Response(found, headers=headers, media_type="application/json")


@router.get(
    "/{namespace}/{collection}/{filename}",
    response_class=Response,
    responses={200: {"model": FileDownload}},
)
async def download_file(
    namespace: str,
    collection: str,
    filename: str,
    context: Context,
    files: Download,
    version: Version = None,
) -> Response:
    """Get a file in JSON, its content in base64. Your own file of a name comes before a shared one."""
    return await as_json(context, await files.find(namespace, collection, filename, version))


@router.get(
    "/{namespace}/{collection}/{filename}/content", response_class=Response, responses=_CONTENT
)
async def get_file_content(
    namespace: str,
    collection: str,
    filename: str,
    request: Request,
    context: Context,
    files: Download,
    version: Version = None,
) -> Response:
    """Get the content of a file as it is, whole or in part; served as temporary addresses are."""
    found = await files.find(namespace, collection, filename, version)
    return await raw(context, request, found.file, found.version, "private, no-cache")


@router.patch("/{namespace}/{collection}/{filename}")
async def update_file_metadata(
    namespace: str,
    collection: str,
    filename: str,
    data: FileMetadataUpdate,
    files: Upload,
    if_match: IfMatch = None,
) -> FileRead:
    """Replace the metadata of a file of yours."""
    return await files.update_metadata(
        namespace, collection, filename, data.file_metadata, if_match
    )


@router.delete("/{namespace}/{collection}/{filename}", status_code=204)
async def delete_file(
    namespace: str, collection: str, filename: str, files: Delete, if_match: IfMatch = None
) -> None:
    """Delete a file of yours with all its versions."""
    await files.delete(namespace, collection, filename, if_match)


@router.post("/{namespace}/{collection}/{filename}/url")
async def create_file_url(
    namespace: str,
    collection: str,
    filename: str,
    files: Download,
    version: Version = None,
    expires_in: Annotated[
        int, Query(description="Seconds; at least 60 and at most 30 days count.")
    ] = DEFAULT_SECONDS,
) -> FileUrl:
    """Make a temporary address of one version of a file, for whoever gets it."""
    return await files.url(namespace, collection, filename, version, expires_in)


def _incoming(request: Request) -> tuple[Incoming, int]:
    """The upload, and how many bytes its content is sure to have."""
    content_type = request.headers.get("content-type", "")
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdigit() else 0
    if content_type.lower().startswith("multipart/form-data"):
        return FormIncoming(_body(request), content_type), max(0, announced - 2 * _MIB)
    return JsonIncoming(_body(request)), max(0, announced - 2 * _MIB) // 4 * 3


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        # Told to nobody, but it is no fault of ours that should be in the log as one.
        raise BadRequestError("The request ended before its body did.") from error
