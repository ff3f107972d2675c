"""Bodies of the file operations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Input, Output, Stamped
from sinas.kit.file_names import MAX_CHARS, clean_name
from sinas.kit.json_text import encode
from sinas.kit.json_types import JsonObject
from sinas.kit.media_types import is_media_type
from sinas.models import FileVisibility

_MAX_METADATA_BYTES = 256 * 1024


def _media_type(text: str) -> str:
    if not is_media_type(text):
        raise ValueError("is no media type, such as 'text/plain'")
    return text.strip()


def _storable(metadata: JsonObject) -> JsonObject:
    if len(encode(metadata)) > _MAX_METADATA_BYTES:
        raise ValueError(f"may have at most {_MAX_METADATA_BYTES} bytes as JSON")
    return metadata


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CHARS, description="Without slashes; stored in NFC."),
    AfterValidator(clean_name),
]
ContentType = Annotated[
    str,
    Field(min_length=1, max_length=255, description="The media type."),
    AfterValidator(_media_type),
]
Metadata = Annotated[
    JsonObject,
    AfterValidator(_storable),
    Field(description="Checked against the collection's `metadata_schema`."),
]
Visibility = Annotated[
    FileVisibility,
    Field(
        description="`shared` files are read by everybody who may read files of the collection. A "
        "new version of a file leaves its visibility."
    ),
]
UpdateExisting = Annotated[
    bool,
    Field(
        description="Whether a file of that name gets a new version. Otherwise the new file gets "
        "another name, which the answer tells."
    ),
]


class FileFields(Input):
    """What is said of a content that is uploaded."""

    name: Name
    content_type: ContentType
    visibility: Visibility = FileVisibility.PRIVATE
    file_metadata: Metadata = {}
    update_existing: UpdateExisting = False


class FileUpload(FileFields):
    """A file in JSON."""

    content_base64: str = Field(description="The content in base64.")


class FileForm(Input):
    """A file as a form: the part `file` is the content, and says its name and type."""

    file: str = Field(json_schema_extra={"format": "binary"})
    name: Name | None = Field(None, description="Another name than the part's.")
    content_type: ContentType | None = Field(None, description="Another type than the part's.")
    visibility: Visibility = FileVisibility.PRIVATE
    file_metadata: Metadata = {}
    update_existing: UpdateExisting = False


class FileMetadataUpdate(Input):
    """New metadata in place of the old."""

    file_metadata: Metadata


class FileVersionRead(Output):
    """One version of a file. `filter_execution_id` is the call that approved it, if one did."""

    id: UUID
    file_id: UUID
    version_number: int
    size_bytes: int
    hash_sha256: str
    content_type: str
    uploaded_by: UUID | None
    filter_execution_id: UUID | None
    created_at: datetime


class FileRead(Stamped):
    """A file. `url` is its public address, or after an upload one for an hour."""

    namespace: str
    name: str
    user_id: UUID
    content_type: str
    current_version: int
    file_metadata: JsonObject
    visibility: FileVisibility
    url: str | None


class FileWithVersions(FileRead):
    """A file with all its versions, oldest first."""

    versions: list[FileVersionRead]


class FileDownload(Output):
    """A file's content in JSON."""

    content_base64: str
    content_type: str
    file_metadata: JsonObject
    version: int


class FileUrl(Output):
    """An address that works without signing in, for one version. `expires_in` are seconds."""

    url: str
    filename: str
    content_type: str
    version: int
    expires_in: int
