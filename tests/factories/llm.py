"""LLM providers."""

from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import LlmProvider

_numbers = count(1)


async def make_provider(
    context: AppContext,
    endpoint: str | None,
    *,
    name: str | None = None,
    provider_type: str = "openai",
    default_model: str | None = "echo",
    api_key: str | None = "sk-upstream",
    is_default: bool = False,
    **columns: Any,
) -> LlmProvider:
    """A provider at `endpoint`, for example `llm.openai_url`."""
    async with context.unit() as unit:
        row = LlmProvider(
            name=name or f"provider-{next(_numbers)}",
            provider_type=provider_type,
            api_endpoint=endpoint,
            api_key_encrypted=None if api_key is None else context.cipher.encrypt(api_key),
            default_model=default_model,
            is_default=is_default,
            **columns,
        )
        unit.session.add(row)
    return row
