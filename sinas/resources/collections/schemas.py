"""Bodies of the collection operations."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from sinas.crud.schema import Change, Input, Stamped
from sinas.kit.json_types import JsonObject
from sinas.kit.jsonschema import BadSchemaError, check_schema
from sinas.kit.media_types import is_pattern

# Paths of the files' API begin with these.
_RESERVED = frozenset({"serve", "public"})


def _usable(schema: JsonObject) -> JsonObject:
    try:
        check_schema(schema)
    except BadSchemaError as error:
        where = "/".join(str(part) for part in error.path)
        raise ValueError(
            f"is no valid JSON Schema{' at ' + where if where else ''}: {error.message}"
        ) from error
    return schema


def _free(namespace: str) -> str:
    if namespace in _RESERVED:
        raise ValueError(f"'{namespace}' is the beginning of other addresses; choose another")
    return namespace


def _patterns(types: list[str]) -> list[str]:
    for one in types:
        if not is_pattern(one):
            raise ValueError(f"'{one}' is neither a media type nor one like 'image/*'")
    return [one.lower() for one in types]


Identifier = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")
]
Namespace = Annotated[Identifier, AfterValidator(_free)]
MetadataSchema = Annotated[
    JsonObject,
    AfterValidator(_usable),
    Field(description="JSON Schema (draft 2020-12) of each file's metadata; empty for any."),
]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+$", max_length=511)]
ContentFilter = Annotated[
    FunctionName,
    Field(
        description="`namespace/name` of a function that each new content goes through before it "
        "is stored: it approves, refuses or replaces it. It runs as whoever uploads."
    ),
]
PostUpload = Annotated[
    FunctionName,
    Field(description="`namespace/name` of a function that is called after each new version."),
]
ContentTypes = Annotated[
    list[Annotated[str, Field(max_length=255)]],
    Field(max_length=100),
    AfterValidator(_patterns),
    Field(description="Media types, or `image/*`, that files may have; empty for all."),
]
FileSize = Annotated[int, Field(ge=1, le=1000, description="Of one version of a file, in MiB.")]
TotalSize = Annotated[
    int, Field(ge=1, le=1000, description="Of all versions of all files together, in GiB.")
]
IsPublic = Annotated[
    bool, Field(description="Whether anybody may read its shared files, without signing in.")
]


class CollectionCreate(Input):
    """A new collection."""

    namespace: Namespace = "default"
    name: Identifier
    metadata_schema: MetadataSchema = {}
    content_filter_function: ContentFilter | None = None
    post_upload_function: PostUpload | None = None
    allowed_content_types: ContentTypes = []
    max_file_size_mb: FileSize = 100
    max_total_size_gb: TotalSize = 10
    is_public: IsPublic = False
    allow_shared_files: bool = True
    allow_private_files: bool = True


class CollectionUpdate(Change):
    """Fields to change; null is as if left out, but takes a function away.

    They count for what is stored from now on.
    """

    set_by_platform = Change.set_by_platform | {"stored_bytes"}

    metadata_schema: MetadataSchema | None = None
    content_filter_function: ContentFilter | None = None
    post_upload_function: PostUpload | None = None
    allowed_content_types: ContentTypes | None = None
    max_file_size_mb: FileSize | None = None
    max_total_size_gb: TotalSize | None = None
    is_public: IsPublic | None = None
    allow_shared_files: bool | None = None
    allow_private_files: bool | None = None


class CollectionRead(Stamped):
    """A collection."""

    namespace: str
    name: str
    user_id: UUID
    metadata_schema: JsonObject
    content_filter_function: str | None
    post_upload_function: str | None
    allowed_content_types: list[str]
    max_file_size_mb: int
    max_total_size_gb: int
    is_public: bool
    allow_shared_files: bool
    allow_private_files: bool
    stored_bytes: int = Field(description="What all versions of all files have together.")
