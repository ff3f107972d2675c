"""The embedder that the settings ask for."""

from sinas.egress.client import GuardedClient
from sinas.search.embedding.base import Embedder
from sinas.search.embedding.local import LocalEmbedder
from sinas.search.embedding.openai import OpenAiEmbedder
from sinas.settings import SearchSettings


def open_embedder(settings: SearchSettings, http: GuardedClient) -> Embedder | None:
    """None where search by meaning is off."""
    match settings.embedding_provider:
        case "none":
            return None
        case "local":
            return LocalEmbedder()
        case "openai":
            return OpenAiEmbedder(
                http,
                endpoint=settings.embedding_endpoint,
                key=settings.embedding_api_key.get_secret_value(),
                model=settings.embedding_model,
                dimensions=settings.embedding_dimensions,
                shortens=settings.embedding_model.startswith("text-embedding-3"),
            )
