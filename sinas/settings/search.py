"""The group about search in files."""

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from sinas.settings.platform import Group

# Each has an index of its own: an HNSW index is of vectors of one size, 2,000 numbers at most.
VECTOR_DIMENSIONS: Final = (384, 512, 768, 1024, 1536)

Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian",
    "lithuanian", "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian",
    "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip


class SearchSettings(Group):
    """Search in files: what is read, in which language, and what understands it."""

    model_config = SettingsConfigDict(env_prefix="SEARCH_")

    embedding_provider: Literal["local", "openai", "none"] = Field(
        "local",
        description="What search by meaning uses: `local` is a small English model that needs no "
        "network, `openai` any server that speaks OpenAI's protocol, `none` turns it off.",
    )
    embedding_endpoint: str = Field(
        "https://api.openai.com/v1",
        description="Where `openai` is, with `/v1`; it may be a private address.",
    )
    embedding_api_key: SecretStr = Field(SecretStr(""), description="The key for it.")
    embedding_model: str = Field("text-embedding-3-small", description="The model to ask it for.")
    embedding_dimensions: int = Field(
        1536, description="Numbers in that model's vectors: 384, 512, 768, 1024 or 1536."
    )
    language: Language = Field(
        "english",
        description="Whose word forms full-text search knows, besides exact words of any: one of "
        "PostgreSQL's text search configurations.",
    )
    max_file_mb: int = Field(
        50, ge=1, le=1000, description="Larger files are found by name and metadata only."
    )
    max_text_chars: int = Field(
        2_000_000, ge=1000, le=20_000_000, description="How much of one file's text is searched."
    )
    read_seconds: int = Field(
        60, ge=1, le=600, description="Processor time that reading one document may take."
    )
    read_memory_mb: int = Field(
        1024, ge=256, description="Memory that reading one document may take, in MiB."
    )
    timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="How long one search may take before it is refused."
    )

    @field_validator("embedding_endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise ValueError("must be an http or https URL, such as https://api.openai.com/v1")
        return value

    @field_validator("embedding_dimensions")
    @classmethod
    def _has_index(cls, value: int) -> int:
        if value not in VECTOR_DIMENSIONS:
            raise ValueError(f"must be one of {', '.join(map(str, VECTOR_DIMENSIONS))}")
        return value
