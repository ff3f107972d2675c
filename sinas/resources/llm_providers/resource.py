"""Declaration of LLM providers."""

from sinas.resources.base import Resource
from sinas.resources.llm_providers.endpoints import router

RESOURCE = Resource(name="llm_provider", management=router)
