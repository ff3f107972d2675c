"""What is told of files."""

from collections.abc import Mapping
from typing import Any

from sinas.models import Collection, File, FileVisibility
from sinas.resources.files.schemas import FileRead
from sinas.resources.files.uploads import Stored
from sinas.web.file_links import Links


def described(links: Links, collection: Collection, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A file's columns and what else its answer has; `url` only for public ones."""
    is_public = collection.is_public and columns["visibility"] is FileVisibility.SHARED
    return {
        **columns,
        "namespace": collection.namespace,
        "url": links.public(collection.namespace, collection.name, columns["name"])
        if is_public
        else None,
    }


def file_read(links: Links, collection: Collection, file: File) -> FileRead:
    """A file's answer."""
    columns = {column.name: getattr(file, column.name) for column in File.__table__.columns}
    return FileRead.model_validate(described(links, collection, columns))


def uploaded(links: Links, stored: Stored) -> FileRead:
    """The answer for a file that was just stored, with an address for a while."""
    read = file_read(links, stored.collection, stored.file)
    if read.url is None:
        read.url = links.temporary(stored.file.id, stored.version.version_number)
    return read
