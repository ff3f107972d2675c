"""What the routes of stores and states depend on: services for permitted callers, filters."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query

from sinas.auth.principal import Principal
from sinas.db.unit import Unit
from sinas.resources.stores.service import StoreService
from sinas.resources.stores.state_queries import Filter
from sinas.web.deps import Context, InUnit, permitted


def stores_for(action: str) -> Callable[..., Awaitable[StoreService]]:
    """A dependency: stores for a caller who may do `action` on some."""
    check = permitted("stores", action)

    async def build(
        unit: InUnit, context: Context, principal: Annotated[Principal, Depends(check)]
    ) -> StoreService:
        return StoreService(unit, principal, context.cipher)

    return build


async def _statement_unit(context: Context) -> AsyncIterator[Unit]:
    async with context.statement_unit() as unit:
        yield unit


# Every operation on a state writes one statement at most.
InStatements = Annotated[Unit, Depends(_statement_unit, scope="function")]


async def _filter(
    search: Annotated[
        str | None, Query(description="Text in key or description, whatever its case.")
    ] = None,
    tags: Annotated[
        str | None, Query(description="Separated by commas; a state must have all of them.")
    ] = None,
) -> Filter:
    named = [tag.strip() for tag in (tags or "").split(",")]
    return Filter(search=search, tags=[tag for tag in named if tag])


# The states a list is asked for.
Wanted = Annotated[Filter, Depends(_filter)]
