"""Lists of states: for the API, for tools, and for what agents are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    false,
    func,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from sinas.auth.permissions import PathGrant
from sinas.auth.principal import Principal
from sinas.models import State, Store
from sinas.resources.stores.statements import COLUMNS, RULES, live, shared
from sinas.resources.stores.states import Row

_ALL: tuple[Any, ...] = (*RULES, *COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which states a list is about.

    Attributes:
        search: Text in key or description, whatever its case.
        tags: All of them must be there.
    """

    search: str | None = None
    tags: Sequence[str] = ()
    key: str | None = None

    def condition(self) -> ColumnElement[bool]:
        """As SQL."""
        wanted: list[ColumnElement[bool]] = [true()]
        if self.key is not None:
            wanted.append(State.key == self.key)
        if self.search:
            wanted.append(
                or_(
                    State.key.icontains(self.search, autoescape=True),
                    State.description.icontains(self.search, autoescape=True),
                )
            )
        if self.tags:
            wanted.append(State.tags.contains(list(self.tags)))
        return and_(*wanted)


def own_or_shared(user_id: UUID) -> ColumnElement[bool]:
    """SQL: what a user reads in a store."""
    return or_(State.user_id == user_id, shared)


def living(*conditions: ColumnElement[bool]) -> Select[Any]:
    """States with their stores, most relevant first; a list has this order everywhere."""
    return (
        select(*_ALL)
        .join(Store, Store.id == State.store_id)
        .where(live, *conditions)
        .order_by(State.relevance_score.desc(), State.key, State.updated_at.desc(), State.id.desc())
    )


async def rows_of(
    session: AsyncSession, statement: Select[Any] | CompoundSelect[Any]
) -> Sequence[Row]:
    """The rows of a list, by column name."""
    found: Sequence[Any] = (await session.execute(statement)).mappings().all()
    return found


def states_readable(caller: Principal) -> ColumnElement[bool]:
    """SQL: stores whose states the caller may read; their own, whoever owns the store."""
    groups = caller.path_grants("stores", "read_state")
    return and_(true(), *(or_(false(), *map(_names, group)) for group in groups))


def _names(grant: PathGrant) -> ColumnElement[bool]:
    parts = ((Store.namespace, grant.namespace), (Store.name, grant.name))
    return and_(true(), *(column == part for column, part in parts if part is not None))


def _distinct(
    user_id: UUID, store_ids: Sequence[UUID], wanted: Filter, columns: Sequence[Any]
) -> CTE:
    """One state of each key: the user's own, else the shared one that was written last."""
    return (
        select(*columns)
        .join_from(State, Store, Store.id == State.store_id)
        .ext(distinct_on(State.store_id, State.key))
        .where(State.store_id.in_(store_ids), live, own_or_shared(user_id), wanted.condition())
        .order_by(
            *(State.store_id, State.key, (State.user_id == user_id).desc()),
            *(State.updated_at.desc(), State.id.desc()),
        )
        .cte("best")
    )


async def keys_of(
    session: AsyncSession, user_id: UUID, store_id: UUID, wanted: Filter, limit: int
) -> Sequence[Row]:
    """Keys of a store as a user sees them, by name, without their values."""
    columns = (State.key, State.description, State.tags, State.updated_at)
    best = _distinct(user_id, [store_id], wanted, columns).c
    return await rows_of(session, select(*best).order_by(best.key).limit(limit))


async def best_of(
    session: AsyncSession, user_id: UUID, store_ids: Sequence[UUID], wanted: Filter, limit: int
) -> Sequence[Row]:
    """States of stores as a user sees them, one for each key, most relevant first."""
    best = _distinct(user_id, store_ids, wanted, _ALL)
    statement = select(best).order_by(
        *(best.c.relevance_score.desc(), best.c.store_namespace, best.c.store_name, best.c.key)
    )
    return await rows_of(session, statement.limit(limit))


async def counts_of(
    session: AsyncSession, user_id: UUID, store_ids: Sequence[UUID], wanted: Filter
) -> Sequence[Row]:
    """How many keys each store has for a user: in all, where `tag` is null, and by tag."""
    best = _distinct(user_id, store_ids, wanted, (State.store_id, State.tags))
    tags = (
        func.jsonb_array_elements_text(best.c.tags)
        .table_valued("tag", joins_implicitly=True)
        .render_derived()
    )
    in_all = select(best.c.store_id, null().label("tag"), func.count().label("keys"))
    by_tag = select(best.c.store_id, tags.c.tag, func.count().label("keys"))
    return await rows_of(
        session,
        union_all(
            in_all.group_by(best.c.store_id),
            by_tag.select_from(best, tags).group_by(best.c.store_id, tags.c.tag),
        ),
    )
