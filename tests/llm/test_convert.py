from typing import Any

import pytest

from sinas.llm.convert import convert_content, convert_messages, dialect_of

PNG = "data:image/png;base64,AAAA"
URL = "https://files.example/x"


def note(kind: str, name: str = "", url: str | None = URL) -> dict[str, str]:
    where = f"It can be fetched at {url}" if url else "It has no public URL"
    named = f" named '{name}'" if name else ""
    return {"type": "text", "text": f"[The user uploaded {kind}{named}. {where}]"}


TEXT: dict[str, Any] = {"type": "text", "text": "hi"}
DATA_IMAGE = {"type": "image", "image": PNG, "detail": "low"}
URL_IMAGE = {"type": "image", "image": URL}
URL_AUDIO = {"type": "audio", "url": URL, "format": "mp3"}
DATA_AUDIO = {"type": "audio", "data": "QUJD", "format": "wav"}
URL_FILE = {"type": "file", "file_url": URL, "filename": "a.pdf", "mime_type": "application/pdf"}
LOCAL_FILE = {"type": "file", "file_url": "http://host.docker.internal:8000/f", "filename": "a.pdf"}
ID_FILE = {"type": "file", "file_id": "file-1"}
PDF = {"type": "file", "file_data": "QUJD", "filename": "a.pdf", "mime_type": "application/pdf"}
CSV: dict[str, Any] = {
    "type": "file",
    "file_data": "QUJD",
    "filename": "a.csv",
    "mime_type": "text/csv",
}

IMAGE_NOTE = note("an image")
AUDIO_NOTE = note("an audio recording")
FILE_NOTE = note("a file", "a.pdf")
LOCAL_NOTE = note("a file", "a.pdf", "http://host.docker.internal:8000/f")


def image(value: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": value}


def file(name: str, mime: str) -> dict[str, object]:
    data = f"data:{mime};base64,QUJD"
    return {"type": "file", "file": {"filename": name, "file_data": data}}


PDF_PART = file("a.pdf", "application/pdf")
DOCUMENT = {"type": "document_url", "document_url": URL, "document_name": "a.pdf"}
INPUT_AUDIO = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}

# part: (openai, anthropic, mistral, ollama); what litellm makes of it is tested elsewhere.
TABLE: dict[str, tuple[dict[str, Any], tuple[list[Any], ...]]] = {
    "text": (TEXT, ([TEXT], [TEXT], [TEXT], [TEXT])),
    "image, data": (
        DATA_IMAGE,
        ([image({"url": PNG, "detail": "low"})], [image({"url": PNG})], [image(PNG)], [image(PNG)]),
    ),
    "image, URL": (
        URL_IMAGE,
        (
            [image({"url": URL, "detail": "auto"}), IMAGE_NOTE],
            [image({"url": URL}), IMAGE_NOTE],
            [image(URL), IMAGE_NOTE],
            [image(URL), IMAGE_NOTE],
        ),
    ),
    "audio, URL": (URL_AUDIO, ([AUDIO_NOTE], [], [AUDIO_NOTE], [])),
    "audio, data": (
        DATA_AUDIO,
        ([INPUT_AUDIO], [], [{"type": "input_audio", "input_audio": "QUJD"}], []),
    ),
    "file, URL": (URL_FILE, ([FILE_NOTE], [FILE_NOTE], [DOCUMENT, FILE_NOTE], [FILE_NOTE])),
    "file, local URL": (LOCAL_FILE, ([LOCAL_NOTE], [LOCAL_NOTE], [LOCAL_NOTE], [LOCAL_NOTE])),
    "file, id": (ID_FILE, ([{"type": "file", "file": {"file_id": "file-1"}}], [], [], [])),
    "file, PDF data": (PDF, ([PDF_PART], [PDF_PART], [], [])),
    "file, other data": (CSV, ([file("a.csv", "text/csv")], [], [], [])),
}
DIALECTS = ("openai", "anthropic", "mistral", "ollama")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", TABLE)
def test_table(name: str, dialect: str) -> None:
    part, expected = TABLE[name]

    converted = convert_content([TEXT, part], dialect)

    assert converted[1:] == expected[DIALECTS.index(dialect)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_unknown_part_passes_unchanged(dialect: str) -> None:
    part: dict[str, Any] = {"type": "hologram", "data": [1]}

    assert convert_content([part, "odd"], dialect) == [part, "odd"]


def test_unknown_dialect_passes_everything_unchanged() -> None:
    content: list[Any] = [TEXT, DATA_IMAGE, CSV]

    assert convert_content(content, "telepathy") == content


def test_message_that_would_be_left_empty_keeps_a_note() -> None:
    assert convert_content([CSV], "ollama") == [note("a file", "a.csv", None)]


def test_messages_are_copied_and_strings_stay() -> None:
    parts: list[Any] = [DATA_IMAGE]
    messages: list[Any] = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": parts},
    ]

    converted = convert_messages(messages, "mistral")

    assert converted[:2] == messages[:2]
    assert converted[2] == {"role": "user", "content": [image(PNG)]}
    assert messages[2]["content"] == [DATA_IMAGE]


@pytest.mark.parametrize(
    ("provider_type", "model", "dialect"),
    [
        ("openai", "mistral-large", "openai"),
        ("anthropic", "claude", "anthropic"),
        ("mistral", "x", "mistral"),
        ("ollama", "gpt-4", "ollama"),
        (None, "gpt-4o", "openai"),
        ("other", "o1-mini", "openai"),
        ("other", "mistral-small", "mistral"),
        ("other", "pixtral-12b", "mistral"),
        ("other", "llama3", "ollama"),
    ],
)
def test_dialect(provider_type: str | None, model: str, dialect: str) -> None:
    assert dialect_of(provider_type, model) == dialect
