"""Stores an agent may use for its caller, by one query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.principal import Principal
from sinas.crud.references import closest, matching
from sinas.models import Agent, Store
from sinas.resources.stores.state_queries import states_readable
from sinas.resources.stores.statements import RULES
from sinas.resources.stores.values import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class EnabledStore:
    """A store an agent may read for its caller, and perhaps write."""

    rules: Rules
    description: str | None
    is_writable: bool


def references(agent: Agent) -> list[str]:
    """What its `enabled_stores` name."""
    return [str(entry["store"]) for entry in agent.enabled_stores]


async def enabled_stores(
    session: AsyncSession, agent: Agent, caller: Principal
) -> Sequence[EnabledStore]:
    """The stores, by name: those the agent enables and the caller may read states of.

    It writes where the agent and the caller may. A store that several entries name goes by the
    most specific one; where two are alike and differ, by the lesser right.
    """
    named = references(agent)
    may_write = [entry.get("access") == "readwrite" for entry in agent.enabled_stores]
    statement = (
        select(*RULES, Store.description)
        .where(matching(Store, named), states_readable(caller))
        .order_by(Store.namespace, Store.name)
    )
    rows: Sequence[Any] = (await session.execute(statement)).mappings().all()
    found = []
    for row in rows:
        rules = Rules.of(row)
        places = closest(named, rules.namespace, rules.name)
        is_writable = all(may_write[place] for place in places) and caller.can(
            f"sinas.stores/{rules.reference}.write_state:own"
        )
        found.append(
            EnabledStore(rules=rules, description=row["description"], is_writable=is_writable)
        )
    return found
