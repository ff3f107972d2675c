"""Model calls and budgets."""

from decimal import Decimal
from itertools import count
from typing import Any

from sinas.context import AppContext
from sinas.models import Budget, ModelCall, User

_numbers = count(1)


async def make_model_call(context: AppContext, user: User, **columns: Any) -> ModelCall:
    """One call of a model by `user`."""
    values: dict[str, Any] = {
        "agent_namespace": "shop",
        "agent_name": "helper",
        "provider": "mine",
        "model": "m",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cost_usd": Decimal("0.5"),
        "duration_ms": 3,
    }
    async with context.unit() as unit:
        row = ModelCall(user_id=user.id, **(values | columns))
        unit.session.add(row)
    return row


async def make_budget(context: AppContext, **columns: Any) -> Budget:
    """A limit."""
    async with context.unit() as unit:
        row = Budget(**({"name": f"budget-{next(_numbers)}", "limit_tokens": 100} | columns))
        unit.session.add(row)
    return row
