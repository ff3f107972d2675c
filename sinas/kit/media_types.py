"""Media types of contents that strangers uploaded, and what a browser may be told of them. Pure."""

import mimetypes
import re
from typing import Final
from urllib.parse import quote

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - of RFC 6838, no secret
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_PATTERN = re.compile(rf"(?:\*/\*|{_TOKEN}/\*|{_TOKEN}/{_TOKEN})")
PLAIN: Final = "application/octet-stream"

_PICTURES = frozenset(
    f"image/{kind}"
    for kind in ("png", "jpeg", "gif", "webp", "avif", "bmp", "x-icon", "vnd.microsoft.icon")
)
_SHOWN = _PICTURES | {"text/plain", "application/pdf"}
# Those that browsers run nothing in, by their own type; every other one is sent as bytes.
_PASSIVE = _SHOWN | {
    "application/json",
    "application/gzip",
    "application/msword",
    "application/rtf",
    "application/x-7z-compressed",
    "application/x-ndjson",
    "application/x-tar",
    "application/yaml",
    "application/zip",
    "image/heic",
    "image/tiff",
    "text/calendar",
    "text/csv",
    "text/markdown",
    "text/tab-separated-values",
    "text/yaml",
}
_PASSIVE_KINDS = ("audio/", "video/", "font/", "application/vnd.")
_SVG = "image/svg+xml"

# What a page made of it could do: show itself, and nothing of this origin. No scripts, no forms.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self'"
# A sandboxed PDF is a blank page; what runs in one does not run as this origin anyway.
_PDF_POLICY = "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'"

# By extension, whatever the machine's own tables say.
_BY_NAME: Final = {
    ".csv": "text/csv",
    ".css": "text/css",
    ".htm": "text/html",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".sql": "application/sql",
    ".ts": "text/typescript",
    ".txt": "text/plain",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


def essence(content_type: str) -> str:
    """`type/subtype` in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_media_type(text: str) -> bool:
    """Whether it can stand in a header: a type, perhaps with parameters."""
    return text.isascii() and text.isprintable() and _TYPE.fullmatch(essence(text)) is not None


def is_pattern(text: str) -> bool:
    """Whether it is a type, or `type/*`."""
    return _PATTERN.fullmatch(text) is not None


def fits(content_type: str, patterns: list[str]) -> bool:
    """Whether a type is one of the patterns', or there are none."""
    kind = essence(content_type)
    family = f"{kind.partition('/')[0]}/*"
    return not patterns or any(one.lower() in (kind, family, "*/*") for one in patterns)


def guessed(name: str, default: str = PLAIN) -> str:
    """The type that a file's name promises."""
    extension = f".{name.rpartition('.')[2].lower()}" if "." in name else ""
    return _BY_NAME.get(extension) or mimetypes.guess_type(f"x{extension}")[0] or default


def served_headers(content_type: str, name: str) -> dict[str, str]:
    """Headers under which a browser that opens the content cannot be made to act by it.

    Only what is known to be harmless keeps its type, and less of it is shown instead of saved.
    """
    kind = essence(content_type)
    is_shown = kind in _SHOWN or kind.startswith(("audio/", "video/"))
    policy = _PDF_POLICY if kind == "application/pdf" else f"{_POLICY}; sandbox"
    return {
        "Content-Type": _sent(kind),
        "Content-Disposition": disposition(name, inline=is_shown),
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # Pictures may be shown by pages of other origins; that is what the addresses are for.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def _sent(kind: str) -> str:
    if kind.startswith("text/") and kind in _PASSIVE:
        return f"{kind}; charset=utf-8"
    # As a picture in a page it runs nothing; opened by itself it is saved, under a sandbox.
    if kind in _PASSIVE or kind == _SVG:
        return kind
    is_passive = kind.startswith(_PASSIVE_KINDS) and not kind.endswith("xml")
    return kind if is_passive else PLAIN


def disposition(name: str, *, inline: bool = False) -> str:
    """`Content-Disposition` (RFC 6266) for any name: the plain form last, where it is the name."""
    how = "inline" if inline else "attachment"
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%;' else "_" for c in name)
    if plain == name:
        return f'{how}; filename="{plain}"'
    return f"{how}; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\""
