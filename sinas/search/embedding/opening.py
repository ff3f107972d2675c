"""The embedder that the settings ask for."""

from urllib.parse import urlsplit

from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.search.embedding.base import Embedder
from sinas.search.embedding.local import LocalEmbedder
from sinas.search.embedding.openai import OpenAiEmbedder
from sinas.settings import SearchSettings
from sinas.settings.egress import AllowedHost


def open_embedder(settings: SearchSettings) -> Embedder | None:
    """None where search by meaning is off."""
    match settings.embedding_provider:
        case "none":
            return None
        case "local":
            return LocalEmbedder()
        case "openai":
            return OpenAiEmbedder(
                GuardedClient(_only(settings.embedding_endpoint)),
                endpoint=settings.embedding_endpoint,
                key=settings.embedding_api_key.get_secret_value(),
                model=settings.embedding_model,
                dimensions=settings.embedding_dimensions,
                shortens=settings.embedding_model.startswith("text-embedding-3"),
            )


def _only(endpoint: str) -> EgressPolicy:
    """The operator's own choice of a server may be private; that opens it to no connector."""
    parts = urlsplit(endpoint)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return EgressPolicy(hosts=(AllowedHost.parse(f"{host}:{port}"),))
