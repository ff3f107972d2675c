"""Which reader a file gets, by its content type and name."""

from enum import StrEnum
from pathlib import PurePosixPath


class Format(StrEnum):
    """What the readers read."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"
    DOCX = "docx"
    XLSX = "xlsx"
    PPTX = "pptx"
    OPENDOCUMENT = "opendocument"

    @property
    def is_text(self) -> bool:
        """Whether the file itself is text, so that its lines are the file's lines."""
        return self in (Format.TEXT, Format.MARKDOWN)


_OFFICE = "application/vnd.openxmlformats-officedocument"
_BY_TYPE = {
    "text/markdown": Format.MARKDOWN,
    "text/x-markdown": Format.MARKDOWN,
    "text/html": Format.HTML,
    "application/xhtml+xml": Format.HTML,
    "application/pdf": Format.PDF,
    f"{_OFFICE}.wordprocessingml.document": Format.DOCX,
    f"{_OFFICE}.spreadsheetml.sheet": Format.XLSX,
    f"{_OFFICE}.presentationml.presentation": Format.PPTX,
    "application/vnd.oasis.opendocument.text": Format.OPENDOCUMENT,
    "application/vnd.oasis.opendocument.spreadsheet": Format.OPENDOCUMENT,
    "application/vnd.oasis.opendocument.presentation": Format.OPENDOCUMENT,
}
_BY_SUFFIX = {
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xhtml": Format.HTML,
    ".pdf": Format.PDF,
    ".docx": Format.DOCX,
    ".xlsx": Format.XLSX,
    ".pptx": Format.PPTX,
    ".odt": Format.OPENDOCUMENT,
    ".ods": Format.OPENDOCUMENT,
    ".odp": Format.OPENDOCUMENT,
}
# What says nothing of the content: then the name decides.
_VAGUE = frozenset({"application/octet-stream", "text/plain", "application/zip", ""})
_NO_TEXT = ("image/", "audio/", "video/", "font/", "model/", "application/vnd.")
_NO_TEXT_TYPES = frozenset(
    {
        "application/zip",
        "application/gzip",
        "application/msword",
        "application/java-archive",
        "application/wasm",
        "application/epub+zip",
        "application/rtf",
        "application/x-7z-compressed",
        "application/x-bzip2",
        "application/x-gzip",
        "application/x-rar-compressed",
        "application/x-tar",
        "application/x-xz",
        "application/x-zip-compressed",
    }
)
_TEXT_ALL_THE_SAME = ("+xml", "+json")


def format_of(content_type: str, filename: str) -> Format | None:
    """The reader for a file; None for what has no text: pictures, sound, archives.

    What is none of the known types is taken for text; the reader finds out whether it is.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    by_name = _BY_SUFFIX.get(PurePosixPath(filename).suffix.lower())
    if kind in _VAGUE and by_name is not None:
        return by_name
    if kind.endswith(_TEXT_ALL_THE_SAME):
        return Format.TEXT
    if kind.startswith(_NO_TEXT) or kind in _NO_TEXT_TYPES:
        return None
    return Format.TEXT
