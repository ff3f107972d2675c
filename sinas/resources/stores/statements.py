"""The statements of reading and writing one state, each one round trip, built once.

Every one of them sees only states that have not expired. What could leave a value in clear finds
the store again by its id and by whether it encrypts: when a store is being told to encrypt, a
write that has read it before waits, finds nothing, and looks again.
"""

from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    Uuid,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from sinas.db.direct import Statement
from sinas.models import State, Store

RULES: Final[tuple[ColumnElement[Any], ...]] = (
    Store.id.label("store_id"),
    Store.namespace.label("store_namespace"),
    Store.name.label("store_name"),
    Store.schema.label("store_schema"),
    Store.strict.label("store_strict"),
    Store.default_visibility.label("store_default_visibility"),
    Store.encrypted.label("store_encrypted"),
)
COLUMNS: Final[tuple[Any, ...]] = tuple(
    column for column in State.__table__.columns if column.name != "store_id"
)
WRITABLE: Final = tuple(
    column.name
    for column in State.__table__.columns
    if column.name not in ("store_id", "created_at", "updated_at")
)

live: Final[ColumnElement[bool]] = or_(State.expires_at.is_(None), State.expires_at > func.now())
# Literal: with a parameter, PostgreSQL stops finding the partial index once it plans the
# prepared statement for any value.
shared: Final[ColumnElement[bool]] = State.visibility == literal_column("'shared'")
_is_own = State.user_id == bindparam("of_user", type_=Uuid())
_named = (Store.namespace == bindparam("in_namespace"), Store.name == bindparam("in_name"))
_key = State.key == bindparam("wanted_key")


def _found(*conditions: ColumnElement[bool]) -> Statement:
    """The store of a name, and the best state in it that fits, or nulls."""
    state = (
        select(*COLUMNS)
        .where(State.store_id == Store.id, _key, live, *conditions)
        .order_by(_is_own.desc(), State.updated_at.desc(), State.id.desc())
        .limit(1)
        .lateral("state")
    )
    return Statement(
        select(*RULES, *state.c)
        .select_from(Store.__table__.outerjoin(state, true()))
        .where(*_named)
    )


READ: Final = _found(or_(_is_own, shared))
"""A state as its readers find it: their own, else the shared one that was written last."""

READ_OWN: Final = _found(_is_own)

READ_STORE: Final = Statement(select(*RULES).where(*_named))


def _guarded_store() -> CTE:
    return (
        select(Store.id)
        .where(
            Store.id == bindparam("in_store", type_=Uuid()),
            Store.encrypted == bindparam("store_encrypted"),
        )
        .with_for_update(read=True, key_share=True)
        .cte("store")
    )


def _add() -> Statement:
    store = _guarded_store()
    given = [
        bindparam(f"new_{name}", type_=State.__table__.columns[name].type) for name in WRITABLE
    ]
    row: Any = insert(State).from_select(
        ["store_id", *WRITABLE], select(store.c.id, *given), include_defaults=False
    )
    replaced = {name: row.excluded[name] for name in WRITABLE}
    made = (
        row.on_conflict_do_update(
            index_elements=["user_id", "store_id", "key"],
            set_={**replaced, "created_at": func.now(), "updated_at": func.now()},
            where=State.expires_at <= func.now(),
        )
        .returning(*State.__table__.columns)
        .cte("made")
    )
    one = select(text("1")).subquery("one")
    return Statement(
        select(exists(select(store.c.id)).label("has_store"), *made.c).select_from(
            one.outerjoin(made, true())
        )
    )


ADD: Final = _add()
"""A new state, over an expired one of its key. Nulls where a live one is there.

`has_store` is false where the store is gone, or encrypts and did not when it was read.
"""


@lru_cache(maxsize=512)
def change(names: frozenset[str], *, unless_changed: bool, decrypts: bool) -> Statement:
    """Set the named columns of a state; no row where it is not as it was read.

    `unless_changed` is for values made from the old one: they need the row as it was. Only what
    `decrypts` looks at the store again: whatever a store encrypts meanwhile shows in the state.
    """
    conditions = [
        State.id == bindparam("state_id", type_=Uuid()),
        State.encrypted == bindparam("was_encrypted"),
    ]
    if decrypts:
        conditions.append(State.store_id == _guarded_store().c.id)
    if unless_changed:
        conditions.append(State.updated_at == bindparam("seen_at"))
    columns = State.__table__.columns
    return Statement(
        update(State)
        .where(*conditions, live)
        .values({name: bindparam(f"new_{name}", type_=columns[name].type) for name in names})
        .returning(*columns)
    )


def _remove() -> Statement:
    store = select(Store.id).where(*_named).cte("store")
    gone = (
        delete(State)
        .where(State.store_id.in_(select(store.c.id)), _key, _is_own, live)
        .returning(State.id)
        .cte("gone")
    )
    return Statement(
        select(
            exists(select(store.c.id)).label("has_store"),
            select(gone.c.id).scalar_subquery().label("id"),
        )
    )


REMOVE: Final = _remove()
"""Delete the caller's own state of a key; `id` is null where there is none."""
