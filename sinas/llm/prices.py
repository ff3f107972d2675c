"""What a model call costs: the table that ships with Sinas, and prices an operator sets. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from sinas.kit.json_types import JsonObject
from sinas.llm.base import Usage

_TABLE: Final = "prices.json"
_MILLION: Final = Decimal(1_000_000)
# The table has the prices of the providers' own endpoints; what others charge is theirs to say.
_OWN_HOSTS: Final = {
    "anthropic": "api.anthropic.com",
    "mistral": "api.mistral.ai",
    "openai": "api.openai.com",
}


@dataclass(frozen=True, slots=True)
class Price:
    """USD per token. Without prices of their own, cached tokens cost what others do."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    def of(self, usage: Usage) -> Decimal:
        """The cost of a call. Its prompt's count includes what was read from a cache."""
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        plain = max(0, usage.prompt_tokens - cached)
        return (
            plain * self.input
            + usage.cache_read_tokens * _or(self.cache_read, self.input)
            + usage.cache_write_tokens * _or(self.cache_write, self.input)
            + usage.completion_tokens * self.output
        )


def find_price(
    provider_type: str, endpoint: str | None, model: str, config: JsonObject
) -> Price | None:
    """The price of a model; None when nobody knows it.

    Args:
        provider_type: Such as `openai`.
        endpoint: The provider's base URL; None for its type's own.
        model: As the provider calls it.
        config: The provider's configuration; `prices` has USD per million tokens by model:
            `{"input", "output", "cache_read", "cache_write"}`.
    """
    own = config.get("prices")
    if isinstance(own, dict) and isinstance(entry := own.get(model), dict):
        return Price(**{name: Decimal(str(value)) / _MILLION for name, value in entry.items()})
    host = urlsplit(endpoint).hostname if endpoint else _OWN_HOSTS.get(provider_type)
    if host is None or host != _OWN_HOSTS.get(provider_type):
        return None
    known = _table().get(provider_type, {}).get(model)
    if known is None:
        return None
    each, answered, *cached = (None if value is None else Decimal(str(value)) for value in known)
    assert each is not None
    assert answered is not None  # the script leaves models without these out
    return Price(each, answered, *cached)


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = orjson.loads(
        files("sinas.llm").joinpath(_TABLE).read_bytes()
    )
    return found


def _or(price: Decimal | None, other: Decimal) -> Decimal:
    return other if price is None else price
