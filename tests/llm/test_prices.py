"""What calls cost."""

from decimal import Decimal
from typing import Any

import pytest

from sinas.llm.base import Usage
from sinas.llm.prices import Price, find_price

OWN: dict[str, Any] = {"prices": {"m": {"input": 2, "output": 8, "cache_read": 0.5}}}


def test_cached_tokens_have_prices_of_their_own() -> None:
    price = find_price("openai", "http://local/v1", "m", OWN)
    assert price is not None
    usage = Usage(1_000_000, 500_000, 1_500_000, cache_read_tokens=400_000)
    assert price.of(usage) == Decimal("0.6") * 2 + Decimal("0.4") * Decimal("0.5") + 4


def test_without_one_they_cost_what_others_do() -> None:
    price = Price(Decimal(1), Decimal(2))
    assert price.of(Usage(10, 1, 11, cache_read_tokens=4, cache_write_tokens=2)) == 12


@pytest.mark.parametrize(
    ("provider", "endpoint", "is_known"),
    [
        ("openai", None, True),
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "http://127.0.0.1:8080/v1", False),
        ("anthropic", None, False),
        ("ollama", None, False),
    ],
)
def test_the_table_is_for_the_providers_own_endpoints(
    provider: str, endpoint: str | None, is_known: bool
) -> None:
    assert (find_price(provider, endpoint, "gpt-4o", {}) is not None) is is_known


def test_an_operators_price_wins_over_the_table() -> None:
    own: Any = {"prices": {"gpt-4o": {"input": 1, "output": 1}}}
    price = find_price("openai", None, "gpt-4o", own)
    assert price is not None
    assert price.output == Decimal("0.000001")
    assert find_price("openai", None, "gpt-4o", {}) != price
