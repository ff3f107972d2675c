"""What agents do with the files of one collection, with the rights of their caller."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PayloadTooLargeError,
    SinasError,
)
from sinas.kit.json_types import JsonObject
from sinas.kit.media_types import essence, guessed
from sinas.models import FileVersion, FileVisibility
from sinas.resources.artifacts.service import NewArtifact, store
from sinas.resources.files.blobs import drafting
from sinas.resources.files.repository import Found
from sinas.resources.files.schemas import Name
from sinas.resources.files.service import FileService
from sinas.resources.files.text_lines import (
    MOST_LINES,
    NotTextError,
    decoded,
    may_be_text,
    read_lines,
)
from sinas.resources.files.uploads import FileUploads, NewContent, etag
from sinas.storage.base import PIECE_BYTES
from sinas.tools.base import Call, Failed, Ok, Retry, ToolResult
from sinas.web.file_links import Links

# Of text that is changed in memory.
_MOST_EDITED_BYTES: Final = 8 * 1024 * 1024
# What models are shown of a picture: providers take no larger ones.
_MOST_PICTURE_BYTES: Final = 4 * 1024 * 1024
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

A = TypeVar("A", bound=BaseModel)


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: str = Field(min_length=1)


class _Get(_Arguments):
    offset: int = Field(1, ge=1, le=2**31)
    limit: int = Field(MOST_LINES, ge=1, le=MOST_LINES)


class _Write(_Arguments):
    filename: Name
    content: str
    visibility: FileVisibility | None = None


class _Edit(_Arguments):
    old_string: str = Field(min_length=1)
    new_string: str
    replace_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCalls:
    """Calls about one collection in one chat."""

    context: AppContext
    principal: Principal
    chat_id: UUID
    namespace: str
    name: str

    @property
    def _files(self) -> FileService:
        return FileService(self.context, self.principal, sees_all=False)

    async def get(self, call: Call) -> ToolResult:
        """Some lines of a text, or where to find what is no text; pictures are shown."""
        return await _answered(_Get, call, self._get)

    async def write(self, call: Call) -> ToolResult:
        """A new file, or a new version of one."""
        return await _answered(_Write, call, self._write)

    async def edit(self, call: Call) -> ToolResult:
        """A new version in which one text stands in place of another."""
        return await _answered(_Edit, call, self._edit)

    async def delete(self, call: Call) -> ToolResult:
        """Delete a file with its versions."""
        return await _answered(_Arguments, call, self._delete)

    async def _get(self, given: _Get) -> ToolResult:
        found = await self._files.find(self.namespace, self.name, given.filename)
        told: JsonObject = {
            "filename": found.file.name,
            "content_type": found.version.content_type,
            "version": found.version.version_number,
            "metadata": found.file.file_metadata,
            "size_bytes": found.version.size_bytes,
        }
        if may_be_text(found.version.content_type):
            try:
                return Ok(told | await self._text(found.version, given))
            except NotTextError:
                pass
        links = Links.of(self.context)
        told["url"] = links.temporary(found.file.id, found.version.version_number)
        if (picture := await self._picture(found)) is not None:
            told["files"] = [picture]
        return Ok(told)

    async def _text(self, version: FileVersion, given: _Get) -> JsonObject:
        async with aclosing(await self.context.storage.open(version.blob_id.hex)) as reading:
            lines = await read_lines(aiter(reading), given.offset, given.limit)
        told: JsonObject = {"content": "\n".join(lines.shown), "total_lines": lines.total}
        if not lines.is_whole:
            told["line_range"] = f"{lines.first}-{lines.last}" if lines.shown else ""
        return told

    async def _picture(self, found: Found) -> JsonObject | None:
        """A copy of a picture that belongs to the chat: what models are shown comes from there."""
        version = found.version
        kind = essence(version.content_type)
        if kind not in _PICTURES or version.size_bytes > _MOST_PICTURE_BYTES:
            return None
        artifact = NewArtifact(
            # The same for each look at the version.
            id=uuid5(self.chat_id, str(version.id)),
            user_id=self.principal.user_id,
            chat_id=self.chat_id,
            execution_id=None,
            name=found.file.name,
            content=await self._bytes(version),
        )
        async with self.context.unit() as unit:
            await store(unit.session, [artifact])
        return artifact.reference

    async def _write(self, given: _Write) -> ToolResult:
        content_type = guessed(given.filename, "text/plain")
        new = NewContent(name=given.filename, content_type=content_type, update_existing=True)
        return await self._store(given.content, new, given.visibility)

    async def _edit(self, given: _Edit) -> ToolResult:
        found = await self._files.find(self.namespace, self.name, given.filename)
        if found.version.size_bytes > _MOST_EDITED_BYTES:
            return Retry("The file is too large to be edited; write it anew.")
        try:
            async with aclosing(
                await self.context.storage.open(found.version.blob_id.hex)
            ) as reading:
                text = "".join([part async for part in decoded(aiter(reading))])
        except NotTextError:
            return Retry(f"'{found.file.name}' is binary and cannot be edited.")
        times = text.count(given.old_string)
        if times == 0:
            return Retry(f"old_string was not found in '{found.file.name}'.")
        if times > 1 and not given.replace_all:
            return Retry(
                f"old_string appears {times} times in '{found.file.name}'; give more of the text "
                "around it, or set replace_all."
            )
        new = NewContent(
            name=found.file.name,
            content_type=found.version.content_type,
            visibility=found.file.visibility,
            update_existing=True,
            # Nobody's change in between is lost.
            if_match=etag(found.version),
        )
        return await self._store(
            text.replace(given.old_string, given.new_string), new, found.file.visibility
        )

    async def _delete(self, given: _Arguments) -> ToolResult:
        await self._files.delete(self.namespace, self.name, given.filename)
        return Ok({"filename": given.filename, "deleted": True})

    async def _store(
        self, text: str, new: NewContent, visibility: FileVisibility | None
    ) -> ToolResult:
        uploads = FileUploads(self.context, self.principal)
        data = text.encode()
        place = await uploads.open(self.namespace, self.name, len(data))
        if visibility is None:
            # As for everybody else: nobody sees it unless somebody said so.
            is_private = place.allow_private_files
            visibility = FileVisibility.PRIVATE if is_private else FileVisibility.SHARED
        new = NewContent(
            name=new.name,
            content_type=new.content_type,
            visibility=visibility,
            update_existing=new.update_existing,
            if_match=new.if_match,
        )
        async with drafting(self.context) as draft:
            written = await uploads.write(draft, place, _pieces(data))
            stored = await uploads.store(draft, place, written, new)
        return Ok(
            {
                "filename": stored.file.name,
                "version": stored.version.version_number,
                "size_bytes": stored.version.size_bytes,
                "created": stored.version.version_number == 1,
            }
        )

    async def _bytes(self, version: FileVersion) -> bytes:
        async with aclosing(await self.context.storage.open(version.blob_id.hex)) as reading:
            return b"".join([piece async for piece in reading])


async def _answered(
    model: type[A], call: Call, run: Callable[[A], Awaitable[ToolResult]]
) -> ToolResult:
    """A call with its arguments checked, and what it may be refused with as the model's answer."""
    try:
        given = model.model_validate(call.arguments)
    except ValidationError as error:
        first = error.errors()[0]
        return Retry(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    try:
        return await run(given)
    except SinasError as error:
        return _refused(error)


def _refused(error: SinasError) -> ToolResult:
    match error:
        case ForbiddenError():
            return Failed("Permission denied", error.message)
        case NotFoundError():
            return Failed("File not found", error.message)
        case InvalidInputError() | PayloadTooLargeError() | ConflictError():
            return Retry(error.message)
        case _:
            return Failed("Files are not available", error.message)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]
