"""Bodies of the budget operations."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator

from sinas.crud.schema import Change, Input, Stamped

_Part = r"[a-zA-Z][a-zA-Z0-9 _\-():]*"
AgentReference = Annotated[
    str,
    Field(
        max_length=511,
        pattern=rf"^({_Part}/({_Part}|\*)|\*/\*)$",
        description="`namespace/name`, `namespace/*` or `*/*`; left out, models that are asked "
        "without an agent count as well.",
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=255, description="Named when it is spent.")]
Usd = Annotated[float, Field(gt=0, le=10**9, description="USD a day.")]
Tokens = Annotated[int, Field(gt=0, le=10**15, description="Tokens a day.")]
Share = Annotated[float, Field(ge=0, le=1, description="Turns warn from this share on.")]


class BudgetCreate(Input):
    """How much may be spent in a day (UTC), in USD, in tokens, or both."""

    name: Name
    agent: AgentReference | None = None
    user_id: UUID | None = Field(None, description="Left out, all users together.")
    limit_usd: Usd | None = None
    limit_tokens: Tokens | None = None
    warn_at: Share = 0.8
    is_active: bool = True

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.limit_usd is None and self.limit_tokens is None:
            raise ValueError("give limit_usd, limit_tokens, or both")
        return self


class BudgetUpdate(Change):
    """Changes; what is left out stays. Null removes a limit, but one must be left."""

    set_by_platform = Change.set_by_platform - {"user_id"}

    name: Name | None = None
    limit_usd: Usd | None = None
    limit_tokens: Tokens | None = None
    warn_at: Share | None = None
    is_active: bool | None = None


class BudgetRead(Stamped):
    """A budget."""

    name: str
    agent: str | None
    user_id: UUID | None
    limit_usd: float | None
    limit_tokens: int | None
    warn_at: float
    is_active: bool
