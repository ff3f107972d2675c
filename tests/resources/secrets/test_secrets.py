"""Secrets: values only go in, private ones over shared ones, shared ones are admins' to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from sinas.models import Secret
from sinas.resources.secrets.service import UnreadableSecretError, secret_value, secret_values

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

PATH = "/api/v1/secrets"
CANARY = "canary-9a1f-never-seen-again"


async def put(client: httpx.AsyncClient, name: str = "API_KEY", **body: Any) -> dict[str, Any]:
    given = {"name": name, "value": "plain", "visibility": "private", **body}
    answer = await client.post(PATH, json=given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def values(
    context: AppContext, as_: SignIn, who: str = "user", names: list[str] | None = None
) -> dict[str, str]:
    user = await as_.user(who)
    async with context.sessions() as session:
        return await secret_values(session, context.cipher, user.id, names)


async def test_what_an_answer_has(as_: SignIn) -> None:
    user = await as_("user")
    body = await put(user, description="Weather")
    assert set(body) == {
        "id", "name", "description", "visibility", "allowed_hosts", "user_id", "created_at",
        "updated_at",
    }  # fmt: skip
    assert (body["description"], body["visibility"]) == ("Weather", "private")
    assert body["user_id"] == str((await as_.user("user")).id)
    assert (await user.get(f"{PATH}/API_KEY")).json() == body
    assert (await user.get(PATH)).json() == [body]


async def test_visibility_is_shared_unless_told(as_: SignIn) -> None:
    given = {"name": "TOKEN", "value": "x"}
    refused = await (await as_("user")).post(PATH, json=given)
    assert refused.status_code == 403
    assert "visibility=private" in refused.json()["detail"]
    made = await (await as_("admin")).post(PATH, json=given)
    assert (made.status_code, made.json()["visibility"]) == (201, "shared")


async def test_storing_again_replaces_the_value_and_keeps_the_rest(
    context: AppContext, as_: SignIn
) -> None:
    user = await as_("user")
    first = await put(user, value="one", description="Weather")
    second = await put(user, value="two")
    assert second["id"] == first["id"]
    assert second["description"] == "Weather"
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]
    assert await values(context, as_) == {"API_KEY": "two"}
    # More often than PostgreSQL plans a statement for its values.
    for number in range(12):
        await put(user, value=str(number))
    assert await values(context, as_) == {"API_KEY": "11"}
    assert (await put(user, value="two", description=None))["description"] is None


async def test_a_shared_secret_stays_its_makers_when_another_admin_replaces_it(
    as_: SignIn, context: AppContext
) -> None:
    made = await put(await as_("admin"), visibility="shared", value="one")
    key = await as_.key("admin", ["sinas.secrets.create:all"])
    again = await put(key, visibility="shared", value="two")
    assert (again["id"], again["user_id"]) == (made["id"], made["user_id"])
    assert await values(context, as_) == {"API_KEY": "two"}


async def test_update(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    await put(user, value="one", description="Weather")

    async def change(**body: Any) -> tuple[str, str | None]:
        answer = await user.put(f"{PATH}/API_KEY", json=body)
        assert answer.status_code == 200, answer.text
        return (await values(context, as_))["API_KEY"], answer.json()["description"]

    assert await change(description="Wind") == ("one", "Wind")
    assert await change(value="two") == ("two", "Wind")
    assert await change(value=None) == ("two", "Wind")
    assert await change(description=None) == ("two", None)


async def test_a_private_secret_hides_the_shared_one_for_its_owner_only(
    context: AppContext, as_: SignIn
) -> None:
    admin, user, other = await as_("admin"), await as_("user"), await as_("other")
    shared = await put(admin, visibility="shared", value="everybody's")
    assert (await user.get(f"{PATH}/API_KEY")).json() == shared
    own = await put(user, value="mine")
    assert own["id"] != shared["id"]
    assert (await user.get(f"{PATH}/API_KEY")).json() == own
    assert (await other.get(f"{PATH}/API_KEY")).json() == shared
    assert [row["id"] for row in (await user.get(PATH)).json()] == [shared["id"], own["id"]]
    assert [row["id"] for row in (await other.get(PATH)).json()] == [shared["id"]]
    assert await values(context, as_, "user") == {"API_KEY": "mine"}
    assert await values(context, as_, "other") == {"API_KEY": "everybody's"}
    # PUT and DELETE of a name mean the private one, and the shared one only when told.
    assert (await user.put(f"{PATH}/API_KEY", json={"value": "new"})).json()["id"] == own["id"]
    assert (await user.delete(f"{PATH}/API_KEY")).status_code == 403
    deleted = await user.delete(f"{PATH}/API_KEY", params={"visibility": "private"})
    assert deleted.status_code == 204
    assert (await user.get(f"{PATH}/API_KEY")).json() == shared
    gone = await user.delete(f"{PATH}/API_KEY", params={"visibility": "private"})
    assert gone.status_code == 404


async def test_private_secrets_of_others_do_not_exist(as_: SignIn) -> None:
    await put(await as_("user"), value="mine")
    other = await as_("other")
    assert (await other.get(PATH)).json() == []
    for answer in (
        await other.get(f"{PATH}/API_KEY"),
        await other.put(f"{PATH}/API_KEY", json={"value": "x"}),
        await other.delete(f"{PATH}/API_KEY"),
        await other.delete(f"{PATH}/API_KEY", params={"visibility": "private"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Secret 'API_KEY' not found"
    theirs = await put(other, value="theirs")
    assert [row["id"] for row in (await other.get(PATH)).json()] == [theirs["id"]]


async def test_admins_see_that_private_secrets_exist_and_cannot_touch_them(
    context: AppContext, as_: SignIn
) -> None:
    own = await put(await as_("user"), value="mine")
    admin = await as_("admin")
    assert (await admin.get(PATH)).json() == [own]
    assert (await admin.get(f"{PATH}/API_KEY")).status_code == 404
    assert (await admin.put(f"{PATH}/API_KEY", json={"value": "x"})).status_code == 404
    private = {"visibility": "private"}
    assert (await admin.delete(f"{PATH}/API_KEY", params=private)).status_code == 404
    assert await values(context, as_) == {"API_KEY": "mine"}
    assert await values(context, as_, "admin") == {}


async def test_shared_secrets_are_admins_to_change(context: AppContext, as_: SignIn) -> None:
    await put(await as_("admin"), visibility="shared", value="good")
    # A key may less than its owner.
    key = await as_.key("admin", [f"sinas.secrets.{a}:own" for a in ("create", "update", "delete")])
    for client in (await as_("user"), key):
        refused = [
            await client.post(PATH, json={"name": "API_KEY", "value": "evil"}),
            await client.put(f"{PATH}/API_KEY", json={"value": "evil"}),
            await client.put(f"{PATH}/API_KEY", json={"description": "evil"}),
            await client.delete(f"{PATH}/API_KEY"),
            await client.delete(f"{PATH}/API_KEY", params={"visibility": "shared"}),
        ]
        assert [answer.status_code for answer in refused] == [403] * 5
        assert all("visibility=private" in answer.json()["detail"] for answer in refused)
    assert await values(context, as_) == {"API_KEY": "good"}
    admin = await as_("admin")
    assert (await admin.put(f"{PATH}/API_KEY", json={"value": "new"})).status_code == 200
    assert await values(context, as_) == {"API_KEY": "new"}
    assert (await admin.delete(f"{PATH}/API_KEY")).status_code == 204
    assert await values(context, as_) == {}


async def test_nobody_without_the_right(as_: SignIn) -> None:
    await put(await as_("user"))
    for who in ("guest", "nobody"):
        client = await as_(who)
        for method, path in (
            ("GET", PATH),
            ("POST", PATH),
            ("GET", f"{PATH}/API_KEY"),
            ("PUT", f"{PATH}/API_KEY"),
            ("DELETE", f"{PATH}/API_KEY"),
        ):
            body = {"name": "X", "value": "x", "visibility": "private"} if method == "POST" else {}
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, method) == (403, method)


async def test_a_key_that_may_only_rotate(context: AppContext, as_: SignIn) -> None:
    await put(await as_("user"), value="one")
    key = await as_.key("user", ["sinas.secrets.update:own"])
    assert (await key.get(f"{PATH}/API_KEY")).status_code == 403
    assert (await key.put(f"{PATH}/API_KEY", json={"value": "two"})).status_code == 200
    assert await values(context, as_) == {"API_KEY": "two"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "with space"}, "name"),
        ({"name": "1ST"}, "name"),
        ({"name": "API_KEY\n"}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"value": ""}, "value"),
        ({"value": "x" * 65_537}, "value"),
        ({"value": None}, "value"),
        ({"value": [CANARY]}, "value"),
        ({"visibility": "secret"}, "visibility"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_bad_input_names_the_field(as_: SignIn, body: dict[str, Any], field: str) -> None:
    given = {"name": "API_KEY", "value": CANARY, "visibility": "private", **body}
    answer = await (await as_("user")).post(PATH, json=given)
    assert answer.status_code == 422
    assert [entry["field"] for entry in answer.json()["errors"]] == [field]
    assert CANARY not in answer.text
    assert "x" * 300 not in answer.text


@pytest.mark.parametrize("value", [" ", "ünïcödé 💩", "line\nline\x00", "x" * 65_536])
async def test_any_text_is_a_value(context: AppContext, as_: SignIn, value: str) -> None:
    await put(await as_("user"), value=value)
    assert await values(context, as_) == {"API_KEY": value}


async def test_values_for_work_of_a_user(
    context: AppContext, as_: SignIn, query_counter: QueryCounter
) -> None:
    admin, user = await as_("admin"), await as_("user")
    await put(admin, "A", visibility="shared", value="a")
    await put(admin, "B", visibility="shared", value="b")
    await put(user, "B", value="my b")
    await put(user, "C", value="my c")
    await put(await as_("other"), "D", value="other's")
    user_id = (await as_.user("user")).id
    async with context.sessions() as session:
        for names, expected in (
            (None, {"A": "a", "B": "my b", "C": "my c"}),
            (["B", "D", "NONE"], {"B": "my b"}),
        ):
            with query_counter() as queries:
                assert await secret_values(session, context.cipher, user_id, names) == expected
            assert queries.count == 1
        with query_counter() as queries:
            assert await secret_values(session, context.cipher, user_id, []) == {}
        assert queries.count == 0
        assert await secret_value(session, context.cipher, user_id, "B") == "my b"
        assert await secret_value(session, context.cipher, user_id, "D") is None


async def test_what_cannot_be_decrypted_is_named(context: AppContext, as_: SignIn) -> None:
    admin, user = await as_("admin"), await as_("user")
    await put(admin, "A", visibility="shared", value="a")
    await put(admin, "B", visibility="shared", value="b")
    async with context.unit() as unit:
        damaged = update(Secret).where(Secret.name == "B").values(value_encrypted="damaged")
        await unit.session.execute(damaged)
    with pytest.raises(
        UnreadableSecretError, match=r"Secret 'B' cannot be decrypted.*ENCRYPTION_KEY"
    ):
        await values(context, as_)
    assert await values(context, as_, names=["A"]) == {"A": "a"}
    # One that is overridden need not be readable, and storing it again repairs it.
    await put(user, "B", value="mine")
    assert await values(context, as_) == {"A": "a", "B": "mine"}
    await put(admin, "B", visibility="shared", value="new")
    assert await values(context, as_, "other") == {"A": "a", "B": "new"}


async def test_a_value_is_nowhere_but_in_its_ciphertext(
    context: AppContext, as_: SignIn, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level("DEBUG")
    user = await as_("user")
    private = {"visibility": "private", "value": CANARY}
    answers = [
        await user.post(PATH, json={"name": "API_KEY", **private}),
        await user.put(f"{PATH}/API_KEY", json={"value": CANARY}),
        await user.get(f"{PATH}/API_KEY"),
        await user.get(PATH),
        await user.post(PATH, json={"name": "API_KEY", "value": CANARY}),
        await user.post(PATH, json={"name": CANARY[:6] + "!", **private}),
        await user.post(PATH, json={"name": "X", "description": "\x00", **private}),
        await user.put(f"{PATH}/API_KEY", json={"value": CANARY, "wrong": 1}),
        await user.put(f"{PATH}/NONE", json={"value": CANARY}),
    ]
    assert [a.status_code for a in answers] == [201, 200, 200, 200, 403, 422, 422, 422, 404]
    async with context.sessions() as session:
        stored = await session.scalar(select(Secret.value_encrypted))
    assert stored is not None
    assert context.cipher.decrypt(stored) == CANARY
    said = "".join(a.text for a in answers) + caplog.text + "".join(capfd.readouterr()) + stored
    assert CANARY not in said
