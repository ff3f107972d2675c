"""States: one user's values under keys, what they carry, and how they are listed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.factories.identity import make_user
from tests.resources.stores.support import STATES, got, keys, put, together

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Store
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

pytestmark = pytest.mark.usefixtures("store")


async def test_what_an_answer_has(as_: SignIn, store: Store) -> None:
    user = await as_("user")
    made = await put(user, "s1", {"v": 1}, tags=["t"])
    assert made == (await user.get(f"{STATES}/s1")).json()
    assert (await user.get(STATES)).json() == [made]
    assert made.pop("id")
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        "user_id": str((await as_.user("user")).id),
        "store_id": str(store.id),
        "store_namespace": "app",
        "store_name": "notes",
        "key": "s1",
        "value": {"v": 1},
        "visibility": "private",
        "encrypted": False,
        "description": None,
        "tags": ["t"],
        "relevance_score": 1.0,
        "expires_at": None,
    }


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "", "ä\U0001f600", [], {}, [1, [None]], {"a": {"b": [1]}}]
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_any_json_is_a_value(as_: SignIn, value: Any, encrypted: bool) -> None:
    user = await as_("user")
    made = await put(user, "k", value, encrypted=encrypted)
    assert (made["value"], made["encrypted"]) == (value, encrypted)
    assert await got(user) == value


@pytest.mark.parametrize("key", ["a/b", "a b", "50%", "ä", "x" * 255, "a.b", "/", "a?b#c", "null"])
async def test_keys_may_have_any_characters(as_: SignIn, key: str) -> None:
    user = await as_("user")
    await put(user, key)
    path = f"{STATES}/{quote(key, safe='')}"
    assert (await user.get(path)).json()["key"] == key
    assert (await user.put(path, json={"value": 2})).json()["value"] == 2
    assert (await user.delete(path)).status_code == 200
    assert (await user.get(path)).status_code == 404


async def test_a_key_is_taken_once_for_each_user(as_: SignIn) -> None:
    user, other = await as_("user"), await as_("other")
    await put(user, value="mine")
    again = await user.post(STATES, json={"key": "k", "value": 2})
    assert again.status_code == 400
    assert again.json()["detail"] == "State 'k' already exists in store 'app/notes'."
    assert again.json()["code"] == "duplicate"
    await put(other, value="theirs")
    assert (await got(user), await got(other)) == ("mine", "theirs")


async def test_posts_of_one_key_at_once_make_one_state(as_: SignIn) -> None:
    user = await as_("user")
    answers = await together(*(user.post(STATES, json={"key": "k", "value": n}) for n in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 11
    [made] = [answer.json() for answer in answers if answer.is_success]
    assert (await user.get(STATES)).json() == [made]


async def test_a_put_changes_what_it_names(as_: SignIn) -> None:
    user = await as_("user")
    before = await put(
        user,
        value={"v": 1},
        description="D",
        tags=["a"],
        relevance_score=0.5,
        expires_at="2999-01-01T00:00:00Z",
    )
    changes: dict[str, Any] = {
        "value": [2],
        "visibility": "shared",
        "description": "E",
        "tags": ["b", "c"],
        "relevance_score": 0.25,
        "expires_at": "2999-06-01T00:00:00Z",
        "encrypted": True,
    }
    expected = dict(before)
    for name, value in changes.items():
        answer = await user.put(f"{STATES}/k", json={name: value})
        assert answer.status_code == 200, answer.text
        changed = answer.json()
        assert changed["updated_at"] > expected["updated_at"]
        expected |= {name: value, "updated_at": changed["updated_at"]}
        assert changed == expected
        assert (await user.get(f"{STATES}/k")).json() == expected


async def test_null_is_as_if_left_out_but_empties_what_may_be_empty(as_: SignIn) -> None:
    user = await as_("user")
    before = await put(
        user, value=1, description="D", tags=["a"], expires_at="2999-01-01T00:00:00Z"
    )
    assert (await user.put(f"{STATES}/k", json={})).json() == before
    kept = ("value", "visibility", "encrypted", "tags", "relevance_score")
    assert (await user.put(f"{STATES}/k", json=dict.fromkeys(kept))).json() == before
    nothing = dict.fromkeys(("description", "expires_at"))
    emptied = (await user.put(f"{STATES}/k", json=nothing)).json()
    assert emptied == before | nothing | {"updated_at": emptied["updated_at"]}


async def test_puts_at_once_lose_nothing_of_each_other(as_: SignIn) -> None:
    """One field each, with the encryption of the value switched in between."""
    user = await as_("user")
    await put(user, value="v")
    changes: list[dict[str, Any]] = [
        {"description": "D"},
        {"encrypted": True},
        {"tags": ["t"]},
        {"relevance_score": 0.5},
        {"visibility": "shared"},
        {"value": "w"},
    ]
    answers = await together(*(user.put(f"{STATES}/k", json=each) for each in changes))
    assert {answer.status_code for answer in answers} == {200}
    state = (await user.get(f"{STATES}/k")).json()
    assert (state["value"], state["description"], state["tags"]) == ("w", "D", ["t"])
    assert (state["relevance_score"], state["visibility"]) == (0.5, "shared")


async def test_deleting(as_: SignIn) -> None:
    user = await as_("user")
    await put(user)
    answer = await user.delete(f"{STATES}/k")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "State 'k' deleted from store 'app/notes'"},
    )
    again = await user.delete(f"{STATES}/k")
    assert again.status_code == 404
    assert again.json()["detail"] == "State 'k' not found in store 'app/notes'"
    await put(user)


async def test_what_is_not_there(as_: SignIn) -> None:
    user = await as_("user")
    for base in (STATES, "/stores/no/where/states"):
        for method in ("GET", "PUT", "DELETE"):
            body = {"value": 1} if method == "PUT" else None
            answer = await user.request(method, f"{base}/k", json=body)
            assert answer.status_code == 404, (method, base)
    for method in ("GET", "POST"):
        new = {"key": "k", "value": 1} if method == "POST" else None
        answer = await user.request(method, "/stores/no/where/states", json=new)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Store 'no/where' not found"


async def test_bad_bodies_name_the_field(as_: SignIn) -> None:
    user = await as_("user")
    wrong: list[tuple[str, Any]] = [
        ("key", ""),
        ("key", "x" * 256),
        ("key", 7),
        ("visibility", "public"),
        ("encrypted", "perhaps"),
        ("tags", "a"),
        ("tags", [""]),
        ("tags", [7]),
        ("tags", ["t"] * 101),
        ("relevance_score", 1.1),
        ("relevance_score", -0.1),
        ("relevance_score", "high"),
        ("expires_at", "tomorrow"),
        ("description", 7),
        ("surprise", 1),
    ]
    await put(user, "there")
    for name, value in wrong:
        body = {"key": "k", "value": 1, name: value}
        answer = await user.post(STATES, json=body)
        assert answer.status_code == 422, (name, value)
        assert name in answer.json()["detail"]
        if name != "key":
            answer = await user.put(f"{STATES}/there", json={name: value})
            assert answer.status_code == 422, (name, value)
    for missing in ("key", "value"):
        given = {"key": "k", "value": 1}
        del given[missing]
        assert (await user.post(STATES, json=given)).status_code == 422
    assert await keys(user) == ["there"]


@pytest.mark.parametrize(
    "text",
    [
        b'{"key": "k", "value": "a\\u0000b"}',
        b'{"key": "k", "value": {"a\\u0000b": 1}}',
        b'{"key": "k", "value": "\\ud800"}',
        b'{"key": "k", "value": NaN}',
        b'{"key": "k", "value": 1e999}',
        b'{"key": "k", "value": 123456789012345678901234567890}',
        b'{"key": "k", "value": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"key": "a\\u0000b", "value": 1}',
        b'{"key": "\\ud800", "value": 1}',
        b'{"key": "k", "value": 1, "description": "a\\u0000b"}',
        b'{"key": "k", "value": 1, "tags": ["a\\u0000b"]}',
        b'{"key": "k", "value": 1, "tags": ["\\ud800"]}',
    ],
)
@pytest.mark.parametrize("encrypted", [b"false", b"true"])
async def test_what_cannot_be_stored_is_refused(as_: SignIn, text: bytes, encrypted: bytes) -> None:
    user = await as_("user")
    content = text[:-1] + b', "encrypted": ' + encrypted + b"}"
    headers = {"content-type": "application/json"}
    answer = await user.post(STATES, content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert await keys(user) == []


async def test_odd_keys_and_searches_are_no_errors_of_ours(as_: SignIn) -> None:
    user = await as_("user")
    for odd in ("%00", "%F0%9F%92%A9", "..%2f..", "x" * 3000):
        assert (await user.get(f"{STATES}/{odd}")).status_code in (404, 422)
    assert (await user.get(f"{STATES}?search=%00")).status_code == 422
    assert (await user.get(f"{STATES}?tags=%00")).status_code == 422


async def test_values_have_a_limit(as_: SignIn) -> None:
    user = await as_("user")
    await put(user, "fits", "x" * 4_000_000)
    answer = await user.post(STATES, json={"key": "k", "value": "x" * 4_194_304})
    assert answer.status_code == 413
    assert "4194304" in answer.json()["detail"]
    assert await keys(user) == ["fits"]


async def test_times_without_a_zone_are_in_utc(as_: SignIn) -> None:
    user = await as_("user")
    assert (await put(user, expires_at="2999-01-01T10:00:00"))["expires_at"] == (
        "2999-01-01T10:00:00Z"
    )
    east = await user.put(f"{STATES}/k", json={"expires_at": "2999-01-01T10:00:00+02:00"})
    assert datetime.fromisoformat(east.json()["expires_at"]) == datetime(2999, 1, 1, 8, tzinfo=UTC)
    for odd in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        answer = await user.put(f"{STATES}/k", json={"expires_at": odd})
        assert answer.status_code in (200, 404, 422), answer.text


async def test_lists_are_by_relevance_then_key(as_: SignIn) -> None:
    user = await as_("user")
    for key, relevance in (("b", 1.0), ("c", 0.1), ("a", 1.0), ("d", 0.9)):
        await put(user, key, relevance_score=relevance)
    everything = ["a", "b", "d", "c"]
    assert await keys(user) == everything
    assert await keys(user, limit=2) == everything[:2]
    assert await keys(user, skip=1, limit=2) == everything[1:3]
    assert await keys(user, skip=4) == []
    for bad in ({"limit": 0}, {"limit": 1001}, {"skip": -1}, {"skip": "x"}):
        assert (await user.get(STATES, params=bad)).status_code == 422


async def test_search_and_tags(as_: SignIn) -> None:
    user = await as_("user")
    await put(user, "Theme", tags=["ui", "user"], description="Colours of the page")
    await put(user, "language", tags=["user"])
    await put(user, "100%_done", tags=["ui"])
    assert await keys(user, search="theme") == ["Theme"]
    assert await keys(user, search="COLOURS") == ["Theme"]
    assert await keys(user, search="%_") == ["100%_done"]
    assert await keys(user, search="a_g") == []
    assert await keys(user, tags="user") == ["Theme", "language"]
    assert await keys(user, tags="user, ui") == ["Theme"]
    assert await keys(user, tags="user,none") == []
    assert await keys(user, tags=",") == ["100%_done", "Theme", "language"]
    assert await keys(user, tags="user", search="lang") == ["language"]


async def test_rights_are_asked_before_the_store(context: AppContext, as_: SignIn) -> None:
    reads = await as_(
        await make_user(context, roles=(), permissions=["sinas.stores/app/*.read_state:own"])
    )
    writes = await as_(
        await make_user(context, roles=(), permissions=["sinas.stores/app/*.write_state:own"])
    )
    calls: list[tuple[str, str, Any]] = [
        ("GET", STATES, None),
        ("GET", f"{STATES}/k", None),
        ("POST", STATES, {"key": "k", "value": 1}),
        ("PUT", f"{STATES}/k", {"value": 2}),
        ("DELETE", f"{STATES}/k", None),
    ]
    found = {
        name: [
            (await client.request(method, path, json=body)).status_code
            for method, path, body in calls
        ]
        for name, client in (("reads", reads), ("writes", writes))
    }
    assert found == {"reads": [200, 404, 403, 403, 403], "writes": [403, 403, 200, 200, 200]}
    for client in (reads, writes):
        for place in ("other/notes", "other/none"):
            answers = [
                await client.request(method, path.replace("app/notes", place), json=body)
                for method, path, body in calls
            ]
            assert {answer.status_code for answer in answers} == {403}
    refused = (await reads.get(STATES.replace("app", "other"))).json()["detail"]
    assert "'sinas.stores/other/notes.read_state:own'" in refused


async def test_an_api_key_is_limited_by_its_map(as_: SignIn) -> None:
    user = await as_("user")
    await put(user)
    key = await as_.key("user", ["sinas.stores/app/notes.read_state:own"])
    assert await got(key) == 1
    assert (await key.put(f"{STATES}/k", json={"value": 2})).status_code == 403
    assert (await (await as_.key("user", [])).get(f"{STATES}/k")).status_code == 403


async def test_statements_of_each_operation(as_: SignIn, query_counter: QueryCounter) -> None:
    """Authentication included: two to read, three to write."""
    user = await as_("user")
    await put(user, "warm")
    counts: dict[str, int] = {}
    for name, method, path, body in (
        ("create", "POST", STATES, {"key": "k", "value": 1, "encrypted": True}),
        ("read", "GET", f"{STATES}/k", None),
        ("list", "GET", STATES, None),
        ("change", "PUT", f"{STATES}/k", {"value": 2, "encrypted": False}),
        ("delete", "DELETE", f"{STATES}/k", None),
    ):
        with query_counter() as queries:
            answer = await user.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        counts[name] = queries.count
    assert counts == {"create": 3, "read": 2, "list": 2, "change": 3, "delete": 2}


async def test_owner_of_a_list_is_for_those_who_read_everybodys(
    context: AppContext, as_: SignIn
) -> None:
    user, other, admin = await as_("user"), await as_("other"), await as_("admin")
    await put(user, "users", visibility="private")
    await put(user, "users-shared", visibility="shared")
    await put(other, "others")
    await put(admin, "admins")
    everything = ["admins", "others", "users", "users-shared"]
    other_id = str((await as_.user("other")).id)
    assert await keys(admin) == await keys(admin, owner="me") == ["admins"]
    assert await keys(admin, owner="all") == everything
    assert await keys(admin, owner=other_id) == ["others"]
    assert await keys(admin, owner=str(uuid4())) == []
    bad = await admin.get(STATES, params={"owner": "everybody"})
    assert bad.status_code == 400
    assert [each["field"] for each in bad.json()["errors"]] == ["owner"]
    for owner in ("me", "all", other_id, "everybody"):
        assert await keys(user, owner=owner) == ["users", "users-shared"]
        assert await keys(other, owner=owner) == ["others", "users-shared"]
