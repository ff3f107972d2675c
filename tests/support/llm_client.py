"""Short ways to ask a model in tests."""

from dataclasses import replace
from typing import Any

from sinas.llm.assemble import TurnText
from sinas.llm.base import LanguageModel, ModelRequest, Provider, ProviderType
from tests.support.llm_upstream import LlmUpstream

KEY = "sk-secret-0123456789"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "shop__find",
        "description": "Find an order",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}


def question(
    upstream: LlmUpstream, model: str, *, wire: ProviderType = "openai", **fields: Any
) -> ModelRequest:
    """A request for `model` at the scripted upstream, spoken in a provider's wire."""
    endpoint = upstream.openai_url if wire in ("openai", "mistral") else upstream.url
    request = ModelRequest(
        provider=Provider(name="scripted", type=wire, endpoint=endpoint, api_key=KEY),
        model=model,
        messages=[{"role": "user", "content": "good morning"}],
        timeout_seconds=5.0,
    )
    return replace(request, **fields)


async def ask(client: LanguageModel, request: ModelRequest) -> TurnText:
    """The whole answer."""
    text = TurnText()
    async for delta in client.stream(request):
        text.add(delta)
    return text
