"""Who reads whose states: default visibility, own before shared, the newest of many shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories.memory import make_store
from tests.resources.stores.support import STATES, got, keys, put

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Store
    from tests.fixtures.client import SignIn


@pytest.mark.usefixtures("store")
async def test_private_states_are_their_users_alone(as_: SignIn) -> None:
    await put(await as_("user"))
    for who in ("other", "admin"):
        assert (await (await as_(who)).get(f"{STATES}/k")).status_code == 404
        assert await keys(await as_(who)) == []


@pytest.mark.usefixtures("store")
async def test_shared_ones_are_read_by_others_and_changed_by_their_owner(as_: SignIn) -> None:
    user, other = await as_("user"), await as_("other")
    await put(user, value="shared", visibility="shared")
    assert await got(other) == "shared"
    assert await keys(other) == ["k"]
    assert (await other.put(f"{STATES}/k", json={"value": 2})).status_code == 404
    assert (await other.delete(f"{STATES}/k")).status_code == 404
    await user.put(f"{STATES}/k", json={"visibility": "private"})
    assert (await other.get(f"{STATES}/k")).status_code == 404


@pytest.mark.usefixtures("store")
async def test_ones_own_comes_before_a_shared_one(as_: SignIn) -> None:
    user, other = await as_("user"), await as_("other")
    await put(other, value="own")
    await put(user, value="shared", visibility="shared")
    assert await got(other) == "own"
    await other.delete(f"{STATES}/k")
    assert await got(other) == "shared"


@pytest.mark.usefixtures("store")
async def test_of_many_shared_ones_the_newest_is_read(as_: SignIn) -> None:
    first, second, reader = await as_("first"), await as_("second"), await as_("reader")
    await put(first, value="first", visibility="shared")
    await put(second, value="second", visibility="shared")
    assert await got(reader) == "second"
    assert await keys(reader) == ["k", "k"]
    await first.put(f"{STATES}/k", json={"value": "first again"})
    assert await got(reader) == "first again"
    assert await got(second) == "second"


@pytest.mark.parametrize("default", ["private", "shared"])
async def test_the_stores_default_counts_where_none_is_given(
    context: AppContext, as_: SignIn, default: str
) -> None:
    admin = await as_.user("admin")
    await make_store(context, admin, namespace="app", name="notes", default_visibility=default)
    user = await as_("user")
    assert (await put(user, "a"))["visibility"] == default
    assert (await put(user, "b", visibility=None))["visibility"] == default
    assert (await put(user, "c", visibility="private"))["visibility"] == "private"
    assert (await put(user, "d", visibility="shared"))["visibility"] == "shared"
    changed = await user.put(f"{STATES}/a", json={"value": 2})
    assert changed.json()["visibility"] == default


async def test_nothing_of_one_store_is_seen_in_another(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    await make_store(context, await as_.user("admin"), namespace="app", name="facts")
    user = await as_("user")
    await put(user, visibility="shared")
    assert (await user.get("/stores/app/facts/states/k")).status_code == 404
    assert (await user.get("/stores/app/facts/states")).json() == []
    assert (await user.delete("/stores/app/facts/states/k")).status_code == 404
    assert await got(user) == 1
