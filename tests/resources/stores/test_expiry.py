"""Expired states: gone on every path, replaced by new ones, deleted by the sweep."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from sinas.kit.time import utcnow
from sinas.models import State, StateVisibility
from sinas.resources.stores.jobs import SWEEPS, purge
from tests.factories.memory import make_state
from tests.resources.stores.support import STATES, got, keys, put

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Store
    from tests.fixtures.client import SignIn

HOUR = timedelta(hours=1)


async def stored(context: AppContext) -> set[str]:
    async with context.sessions() as session:
        return set(await session.scalars(select(State.key)))


async def test_an_expired_state_is_gone_on_every_path(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    owner = await as_.user("user")
    past, future = utcnow() - HOUR, utcnow() + HOUR
    shared = StateVisibility.SHARED
    await make_state(context, store, owner, "old", expires_at=past, visibility=shared)
    await make_state(context, store, owner, "new", expires_at=future, visibility=shared)
    for who in ("user", "other"):
        client = await as_(who)
        assert await keys(client) == ["new"]
        assert (await client.get(f"{STATES}/old")).status_code == 404
    user, admin = await as_("user"), await as_("admin")
    assert (await user.put(f"{STATES}/old", json={"value": 2})).status_code == 404
    extended = {"expires_at": future.isoformat()}
    assert (await user.put(f"{STATES}/old", json=extended)).status_code == 404
    assert (await user.delete(f"{STATES}/old")).status_code == 404
    assert await keys(admin, owner="all") == ["new"]


async def test_it_ends_while_nobody_does_anything(as_: SignIn, store: Store) -> None:
    user = await as_("user")
    await put(user, expires_at=(utcnow() + HOUR).isoformat())
    assert await got(user) == 1
    ended = await user.put(f"{STATES}/k", json={"expires_at": (utcnow() - HOUR).isoformat()})
    assert ended.status_code == 200
    assert (await user.get(f"{STATES}/k")).status_code == 404


async def test_its_key_is_free_again(context: AppContext, as_: SignIn, store: Store) -> None:
    owner = await as_.user("user")
    old = await make_state(
        context,
        store,
        owner,
        "k",
        "old",
        expires_at=utcnow() - HOUR,
        tags=["old"],
        description="Old",
        visibility=StateVisibility.SHARED,
    )
    made = await put(await as_("user"), value="new")
    assert made["id"] != str(old.id)
    assert made["created_at"] == made["updated_at"] > old.created_at.isoformat()
    kept = ("value", "tags", "description", "visibility", "expires_at")
    assert [made[name] for name in kept] == ["new", [], None, "private", None]


async def test_a_shared_one_that_expired_does_not_hide_another(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    for who, key, expires_at in (("first", "good", None), ("second", "bad", utcnow() - HOUR)):
        await make_state(
            context,
            store,
            await as_.user(who),
            "k",
            key,
            visibility=StateVisibility.SHARED,
            expires_at=expires_at,
        )
    await make_state(context, store, await as_.user("user"), "k", "own", expires_at=utcnow() - HOUR)
    assert await got(await as_("user")) == "good"


async def test_the_sweep_deletes_what_has_expired(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    owner = await as_.user("user")
    await make_state(context, store, owner, "kept")
    await make_state(context, store, owner, "future", expires_at=utcnow() + HOUR)
    async with context.unit() as unit:
        unit.session.add_all(
            State(
                user_id=owner.id,
                store_id=store.id,
                key=f"old{n}",
                value=n,
                expires_at=utcnow() - timedelta(seconds=1),
            )
            for n in range(1100)
        )
    await purge(context)
    assert await stored(context) == {"kept", "future"}
    [sweep] = SWEEPS
    assert sweep.every <= timedelta(minutes=1)


async def test_the_sweep_passes_by_what_somebody_holds(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    owner = await as_.user("user")
    held = await make_state(context, store, owner, "held", expires_at=utcnow() - HOUR)
    await make_state(context, store, owner, "free", expires_at=utcnow() - HOUR)
    async with context.unit() as unit:
        await unit.session.execute(select(State).where(State.id == held.id).with_for_update())
        await purge(context)
        assert await stored(context) == {"held"}
    await purge(context)
    assert await stored(context) == set()
