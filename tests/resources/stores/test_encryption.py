"""Encrypted states: nothing in clear at rest, switched on and off, for one state or a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text, update

from sinas.models import State, Store
from tests.factories.memory import make_state, make_store
from tests.resources.stores.support import STATES, got, keys, put, together

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

CANARY = "canary-3e71-only-in-clear-to-its-reader"
STORE = "/api/v1/stores/app/notes"


async def at_rest(context: AppContext) -> str:
    async with context.sessions() as session:
        return "\n".join(await session.scalars(text("SELECT s::text FROM states s")))


async def flags(context: AppContext) -> dict[str, tuple[bool, Any, bool]]:
    """By key: whether it is encrypted, its plain column, whether there is a ciphertext."""
    async with context.sessions() as session:
        rows = (await session.scalars(select(State))).all()
        return {r.key: (r.encrypted, r.value, r.encrypted_value is not None) for r in rows}


async def test_a_value_is_nowhere_in_clear(context: AppContext, as_: SignIn, store: Store) -> None:
    user = await as_("user")
    made = await put(user, value={"note": CANARY}, encrypted=True)
    assert (made["value"], made["encrypted"]) == ({"note": CANARY}, True)
    assert await got(user) == {"note": CANARY}
    assert (await user.get(STATES)).json()[0]["value"] == {"note": CANARY}
    assert CANARY not in await at_rest(context)
    assert await flags(context) == {"k": (True, {}, True)}


async def test_a_put_switches_it(context: AppContext, as_: SignIn, store: Store) -> None:
    user = await as_("user")
    await put(user, value=CANARY)
    assert CANARY in await at_rest(context)
    on = await user.put(f"{STATES}/k", json={"encrypted": True})
    assert (on.json()["value"], on.json()["encrypted"]) == (CANARY, True)
    assert CANARY not in await at_rest(context)
    # Whatever else is changed leaves it encrypted.
    await user.put(f"{STATES}/k", json={"value": f"{CANARY}!", "tags": ["t"]})
    assert CANARY not in await at_rest(context)
    off = await user.put(f"{STATES}/k", json={"encrypted": False})
    assert (off.json()["value"], off.json()["encrypted"]) == (f"{CANARY}!", False)
    assert await flags(context) == {"k": (False, f"{CANARY}!", False)}


async def test_in_an_encrypted_store_every_value_is(context: AppContext, as_: SignIn) -> None:
    admin = await as_.user("admin")
    await make_store(context, admin, namespace="app", name="notes", encrypted=True)
    user = await as_("user")
    assert (await put(user, value=CANARY))["encrypted"] is True
    kept = await user.put(f"{STATES}/k", json={"encrypted": False, "value": CANARY})
    assert (kept.status_code, kept.json()["encrypted"]) == (200, True)
    assert CANARY not in await at_rest(context)


async def test_a_store_that_begins_to_encrypt_encrypts_what_is_there(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    user, other, admin = await as_("user"), await as_("other"), await as_("admin")
    for client in (user, other):
        await put(client, value=CANARY)
    await put(user, "null", None)
    before = (await user.get(f"{STATES}/k")).json()
    assert (await admin.put(STORE, json={"encrypted": True})).status_code == 200
    assert CANARY not in await at_rest(context)
    assert (await user.get(f"{STATES}/k")).json() == before | {"encrypted": True}
    assert (await got(other), await got(user, "null")) == (CANARY, None)
    # Switched off again, each stays as it is until it is told otherwise.
    await admin.put(STORE, json={"encrypted": False})
    assert (await user.get(f"{STATES}/k")).json() == before | {"encrypted": True}
    changed = await user.put(f"{STATES}/k", json={"encrypted": False})
    assert changed.json()["encrypted"] is False
    assert (await put(user, "new"))["encrypted"] is False


async def test_more_states_than_a_batch(context: AppContext, as_: SignIn, store: Store) -> None:
    user = await as_.user("user")
    async with context.unit() as unit:
        unit.session.add_all(
            State(user_id=user.id, store_id=store.id, key=f"k{n}", value=CANARY) for n in range(450)
        )
    await (await as_("admin")).put(STORE, json={"encrypted": True})
    found = await flags(context)
    assert len(found) == 450
    assert all(each == (True, {}, True) for each in found.values())


async def test_writes_meanwhile_do_not_slip_through(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    user, admin = await as_("user"), await as_("admin")
    for n in range(8):
        await put(user, f"old{n}", CANARY, encrypted=n % 2 == 0)
    writes = [
        *(user.post(STATES, json={"key": f"new{n}", "value": CANARY}) for n in range(8)),
        *(user.put(f"{STATES}/old{n}", json={"value": f"{CANARY}2"}) for n in range(8)),
        *(user.put(f"{STATES}/old{n}", json={"encrypted": False}) for n in range(0, 8, 2)),
    ]
    first, rest = writes[::2], writes[1::2]
    answers = await together(*first, admin.put(STORE, json={"encrypted": True}), *rest)
    assert {answer.status_code for answer in answers} == {200}
    assert len(await keys(user)) == 16
    assert CANARY not in await at_rest(context)


async def test_a_state_under_another_key_is_named_and_no_error_of_ours(
    context: AppContext, as_: SignIn, store: Store
) -> None:
    user = await as_("user")
    await make_state(context, store, await as_.user("user"), "k", CANARY, encrypted=True)
    async with context.unit() as unit:
        await unit.session.execute(update(State).values(encrypted_value="damaged"))
    for path in (f"{STATES}/k", STATES):
        answer = await user.get(path)
        assert answer.status_code == 503
        assert "State 'k' cannot be decrypted" in answer.json()["detail"]
    assert (await user.put(f"{STATES}/k", json={"value": 2})).status_code == 200
    assert await got(user) == 2
