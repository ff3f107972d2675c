"""The ZIP archives that office files are, looked at before anything unpacks them."""

import io
import zipfile

from sinas.search.documents import DocumentError

_MAX_ENTRIES = 10_000
_MAX_BYTES = 400 * 1024 * 1024
_MAX_ENTRY_BYTES = 150 * 1024 * 1024


def opened(data: bytes) -> zipfile.ZipFile:
    """The archive, when what it unpacks to is bearable.

    `zipfile` never unpacks more of an entry than the directory says, so what it says counts.

    Raises:
        DocumentError: It is no archive, or unpacks to too much.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DocumentError("It is no office document: not a ZIP archive.") from error
    entries = archive.infolist()
    sizes = [entry.file_size for entry in entries]
    if (
        len(entries) > _MAX_ENTRIES
        or sum(sizes) > _MAX_BYTES
        or max(sizes, default=0) > _MAX_ENTRY_BYTES
    ):
        raise DocumentError("It unpacks to more than an office document may.")
    return archive
