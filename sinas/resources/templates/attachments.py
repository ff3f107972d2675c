"""Files of collections that go with a mail: found as for a download, and read once it is sure."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from sinas.kit.mail_message import Attachment
from sinas.models import FileVersion
from sinas.resources.files.service import FileService
from sinas.resources.templates.schemas import TemplateAttachment

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that the sender may read, and what the mail calls it."""

    name: str
    version: FileVersion


async def find_files(
    context: AppContext, principal: Principal, wanted: Sequence[TemplateAttachment]
) -> list[FoundFile]:
    """The files, in order. Nothing of their contents is read.

    Raises:
        ForbiddenError: No right to read files of a collection; tells which attachment it is.
        NotFoundError: No such collection, file or version; likewise.
        InvalidInputError: Together they are too large.
    """
    files = FileService(context, principal)
    found = []
    for position, one in enumerate(wanted):
        namespace, _, name = one.collection.partition("/")
        with _told_as(position):
            file = await files.find(namespace, name, one.filename, one.version)
        found.append(FoundFile(one.name or file.file.name, file.version))
    limit = context.settings.mail.max_attachments_mb
    size = sum(one.version.size_bytes for one in found)
    if size > limit * _MIB:
        message = f"have {size / _MIB:.1f} MiB together; the limit is {limit} MiB"
        raise InvalidInputError(f"attachments {message}", [FieldError("attachments", message)])
    return found


async def read_files(context: AppContext, found: Sequence[FoundFile]) -> tuple[Attachment, ...]:
    """Their contents, all in memory.

    Raises:
        NotFoundError: One was deleted meanwhile; tells which attachment it is.
        StorageError: The storage cannot be reached.
    """
    attachments = []
    for position, one in enumerate(found):
        with _told_as(position):
            reading = await context.storage.open(one.version.blob_id.hex)
            async with aclosing(reading):
                content = b"".join([piece async for piece in reading])
        attachments.append(
            Attachment(name=one.name, content_type=one.version.content_type, content=content)
        )
    return tuple(attachments)


@contextmanager
def _told_as(position: int) -> Iterator[None]:
    """Errors say which attachment they are about, as those of its fields do."""
    try:
        yield
    except (ForbiddenError, NotFoundError) as error:
        raise type(error)(f"attachments.{position}: {error.message}") from error
