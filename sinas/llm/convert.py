"""Universal content parts to what each provider takes. Pure.

| part | openai | anthropic | mistral | ollama |
|---|---|---|---|---|
| text | text | text | text | text |
| image | `image_url{url,detail}` | base64 or url source | `image_url` string | `images` |
| audio, URL | note | - | note | - |
| audio, data | `input_audio{data,format}` | - | `input_audio` string | - |
| file, URL | note | note | `document_url` + note | note |
| file, id | `file{file_id}` | - | - | - |
| file, data | `file{filename,file_data}` | PDF: document | - | - |

Images by http(s) URL get a note as well. A note is a text part that names what was uploaded
and where it can be fetched, for tools and code. `-` drops the part; a message that would be
left with nothing keeps a note instead, since providers refuse empty messages. Parts of unknown
type, and whole lists for an unknown dialect, pass unchanged.

For anthropic, mistral and ollama the result is what litellm turns into the above: its input is
OpenAI's format, with Mistral's own parts passed on as they are.
"""

from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from sinas.kit.json_types import JsonObject, JsonValue
from sinas.llm.base import PROVIDER_TYPES, ProviderType

Parts: TypeAlias = list[JsonObject]
_Converter: TypeAlias = Callable[[JsonObject], Parts]

_PREFIXES: Final[tuple[tuple[str, ProviderType], ...]] = (
    ("gpt-", "openai"),
    ("o1-", "openai"),
    ("mistral-", "mistral"),
    ("pixtral-", "mistral"),
)
# A name that only resolves on the machine of a local installation, never at a provider's.
_LOCAL_HOST: Final = "host.docker.internal"


def dialect_of(provider_type: str | None, model: str) -> ProviderType:
    """The dialect of a provider; of an unknown one by the model's name, else ollama."""
    for known in PROVIDER_TYPES:
        if provider_type == known:
            return known
    for prefix, dialect in _PREFIXES:
        if model.startswith(prefix):
            return dialect
    return "ollama"


def convert_messages(messages: list[JsonObject], dialect: str) -> list[JsonObject]:
    """Chat messages with every list content converted; the input is left as it is."""
    return [
        {**message, "content": _as_json(convert_content(content, dialect))}
        if isinstance(content := message.get("content"), list)
        else message
        for message in messages
    ]


def convert_content(content: list[JsonValue], dialect: str) -> list[JsonValue]:
    """One message's parts for a dialect."""
    converters = _TABLE.get(dialect)
    if converters is None:
        return content
    converted: list[JsonValue] = []
    dropped: list[JsonObject] = []
    for part in content:
        if not isinstance(part, dict):
            converted.append(part)
            continue
        kind = part.get("type")
        converter = converters.get(kind) if isinstance(kind, str) else None
        parts = [part] if converter is None else converter(part)
        converted.extend(parts)
        if not parts:
            dropped.append(part)
    if not converted:
        converted.extend(_note(part, None) for part in dropped)
    return converted


def _as_json(content: list[JsonValue]) -> JsonValue:
    return content


def _note(part: JsonObject, url: str | None) -> JsonObject:
    kind = {"image": "an image", "audio": "an audio recording"}.get(str(part["type"]), "a file")
    name = f" named '{part['filename']}'" if part.get("filename") else ""
    where = f"It can be fetched at {url}" if url else "It has no public URL"
    return {"type": "text", "text": f"[The user uploaded {kind}{name}. {where}]"}


def _text(part: JsonObject) -> Parts:
    return [{"type": "text", "text": part.get("text", "")}]


def _url_of(part: JsonObject, key: str) -> str | None:
    url = part.get(key)
    return url if isinstance(url, str) and url else None


def _with_note(part: JsonObject, image: JsonObject, url: str) -> Parts:
    return [image] if url.startswith("data:") else [image, _note(part, url)]


def _image_object(part: JsonObject) -> Parts:
    url = _url_of(part, "image")
    if url is None:
        return []
    source: JsonObject = {"url": url, "detail": part.get("detail") or "auto"}
    return _with_note(part, {"type": "image_url", "image_url": source}, url)


def _image_string(part: JsonObject) -> Parts:
    url = _url_of(part, "image")
    if url is None:
        return []
    return _with_note(part, {"type": "image_url", "image_url": url}, url)


def _image_plain_object(part: JsonObject) -> Parts:
    url = _url_of(part, "image")
    if url is None:
        return []
    return _with_note(part, {"type": "image_url", "image_url": {"url": url}}, url)


def _audio_openai(part: JsonObject) -> Parts:
    if part.get("data"):
        source: JsonObject = {"data": part["data"], "format": part.get("format") or "wav"}
        return [{"type": "input_audio", "input_audio": source}]
    url = _url_of(part, "url")
    return [_note(part, url)] if url else []


def _audio_mistral(part: JsonObject) -> Parts:
    if part.get("data"):
        return [{"type": "input_audio", "input_audio": part["data"]}]
    url = _url_of(part, "url")
    return [_note(part, url)] if url else []


def _nothing(part: JsonObject) -> Parts:  # noqa: ARG001 - a converter like the others
    return []


def _file_openai(part: JsonObject) -> Parts:
    if url := _url_of(part, "file_url"):
        return [_note(part, url)]
    if part.get("file_id"):
        return [{"type": "file", "file": {"file_id": part["file_id"]}}]
    return [_inline_file(part)] if part.get("file_data") else []


def _file_anthropic(part: JsonObject) -> Parts:
    if url := _url_of(part, "file_url"):
        return [_note(part, url)]
    if part.get("file_data") and _mime_type(part) == "application/pdf":
        return [_inline_file(part)]
    return []


def _file_mistral(part: JsonObject) -> Parts:
    url = _url_of(part, "file_url")
    if url is None:
        return []
    note = _note(part, url)
    if urlsplit(url).hostname == _LOCAL_HOST:
        return [note]
    document: JsonObject = {"type": "document_url", "document_url": url}
    if part.get("filename"):
        document["document_name"] = part["filename"]
    return [document, note]


def _file_ollama(part: JsonObject) -> Parts:
    url = _url_of(part, "file_url")
    return [_note(part, url)] if url else []


def _inline_file(part: JsonObject) -> JsonObject:
    data = str(part["file_data"])
    if not data.startswith("data:"):
        data = f"data:{_mime_type(part)};base64,{data}"
    source: JsonObject = {"filename": part.get("filename") or "file", "file_data": data}
    return {"type": "file", "file": source}


def _mime_type(part: JsonObject) -> str:
    if part.get("mime_type"):
        return str(part["mime_type"])
    data = str(part.get("file_data") or "")
    if data.startswith("data:"):
        return data[5:].partition(";")[0]
    is_pdf = str(part.get("filename") or "").lower().endswith(".pdf")
    return "application/pdf" if is_pdf else "application/octet-stream"


_TABLE: Final[dict[str, dict[str, _Converter]]] = {
    "openai": {
        "text": _text,
        "image": _image_object,
        "audio": _audio_openai,
        "file": _file_openai,
    },
    "anthropic": {
        "text": _text,
        "image": _image_plain_object,
        "audio": _nothing,
        "file": _file_anthropic,
    },
    "mistral": {
        "text": _text,
        "image": _image_string,
        "audio": _audio_mistral,
        "file": _file_mistral,
    },
    "ollama": {
        "text": _text,
        "image": _image_string,
        "audio": _nothing,
        "file": _file_ollama,
    },
}
