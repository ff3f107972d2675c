"""Users over HTTP."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import update

from sinas.models import Role
from tests.factories.identity import make_role, make_user

URL = "/api/v1/users"


async def create(client, email="new@example.com"):
    return await client.post(URL, json={"email": email})


async def roles_of(admin, user_id):
    return (await admin.get(f"{URL}/{user_id}")).json()["roles"]


async def test_create(as_):
    admin = await as_("admin")
    answer = await create(admin, " New@Example.com ")
    assert answer.status_code == 201
    made = answer.json()
    assert made["email"] == "new@example.com"
    assert made["last_login_at"] is None
    assert made["created_at"]
    assert await roles_of(admin, made["id"]) == ["GuestUsers"]


async def test_a_taken_address_is_a_conflict(as_):
    admin = await as_("admin")
    await create(admin)
    answer = await create(admin, "NEW@example.com")
    assert answer.status_code == 409
    assert "new@example.com" in answer.json()["detail"]


async def test_simultaneous_creations_of_one_address(as_):
    admin = await as_("admin")
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(create(admin)) for _ in range(5)]
    assert sorted(each.result().status_code for each in tries) == [201, 409, 409, 409, 409]


async def test_roles_of_the_domain_are_joined(as_, context):
    admin = await as_("admin")
    await admin.post("/api/v1/roles", json={"name": "Acme", "email_domain": "@ACME.example"})
    await make_role(context, name="Elsewhere")
    inside = (await create(admin, "ann@acme.example")).json()
    below = (await create(admin, "bob@sub.acme.example")).json()
    assert await roles_of(admin, inside["id"]) == ["Acme", "GuestUsers"]
    assert await roles_of(admin, below["id"]) == ["GuestUsers"]


@pytest.mark.parametrize("body", [{}, {"email": "ann"}, {"email": "a@b.com", "roles": []}])
async def test_malformed_creations(as_, body):
    assert (await (await as_("admin")).post(URL, json=body)).status_code == 422


async def test_list_search_and_page(as_, context):
    admin = await as_("admin")
    for name in ("ann", "bob", "a_b"):
        await make_user(context, email=f"{name}@corp.example", roles=("Users",))
    found = (await admin.get(URL)).json()
    assert [each["email"] for each in found[:3]] == [
        "a_b@corp.example",
        "bob@corp.example",
        "ann@corp.example",
    ]
    assert found[0]["roles"] == ["Users"]
    search = (await admin.get(URL, params={"search": "CORP"})).json()
    assert len(search) == 3
    assert len((await admin.get(URL, params={"search": "a_b"})).json()) == 1
    assert (await admin.get(URL, params={"search": "%"})).json() == []
    page = (await admin.get(URL, params={"search": "corp", "skip": 1, "limit": 1})).json()
    assert [each["email"] for each in page] == ["bob@corp.example"]


async def test_a_list_costs_two_queries_whatever_its_length(as_, context, query_counter):
    admin = await as_("admin")
    for _ in range(5):
        await make_user(context)
    with query_counter() as queries:
        assert len((await admin.get(URL)).json()) == 6
    assert queries.count == 2, queries.statements


@pytest.mark.parametrize("name", ["guest", "user"])
async def test_others_do_not_exist_for_who_may_read_themselves(as_, name):
    client = await as_(name)
    own, other = await as_.user(name), await as_.user("other")
    assert (await client.get(f"{URL}/{own.id}")).json()["email"] == own.email
    assert (await client.get(f"{URL}/{other.id}")).status_code == 404
    assert (await client.get(f"{URL}/{uuid4()}")).status_code == 404
    assert (await client.get(URL)).status_code == 403
    assert (await create(client)).status_code == 403
    assert (await client.delete(f"{URL}/{other.id}")).status_code == 403
    assert (await client.patch(f"{URL}/{other.id}", json={})).status_code == 404
    assert (await client.patch(f"{URL}/{own.id}", json={})).status_code == 200
    assert (await client.patch(f"{URL}/{own.id}", json={"is_active": True})).status_code == 403


async def test_nobody_without_a_role_sees_anything(as_):
    nobody = await as_("nobody")
    own = await as_.user("nobody")
    assert (await nobody.get(f"{URL}/{own.id}")).status_code == 403
    assert (await nobody.get(URL)).status_code == 403


async def test_unknown_users(as_):
    admin = await as_("admin")
    for call in (admin.get, admin.delete):
        assert (await call(f"{URL}/{uuid4()}")).status_code == 404
        assert (await call(f"{URL}/no-uuid")).status_code == 422
    assert (await admin.patch(f"{URL}/{uuid4()}", json={})).status_code == 404


async def end(admin, user, how):
    if how == "delete":
        return await admin.delete(f"{URL}/{user.id}")
    return await admin.patch(f"{URL}/{user.id}", json={"is_active": False})


@pytest.mark.parametrize("how", ["delete", "patch"])
async def test_leaving_ends_every_credential(as_, client, context, how):
    admin, user = await as_("admin"), await as_.user("user")
    token, key = await as_("user"), await as_.key("user")
    # A sign-in with a refresh token of its own, read where it is issued.
    from datetime import timedelta

    from sinas.auth.refresh import RefreshTokens

    async with context.unit() as unit:
        day = timedelta(days=1)
        refresh = RefreshTokens(unit.session, lifetime=day, grace=day).issue(user.id)

    assert (await end(admin, user, how)).status_code in (200, 204)
    for ended in (token, key):
        assert (await ended.get("/auth/me")).status_code == 401
    answer = await client.post("/auth/refresh", json={"refresh_token": refresh})
    assert answer.status_code == 401
    shown = (await admin.get(f"{URL}/{user.id}")).json()
    assert shown["is_active"] is False
    assert shown["roles"] == []
    assert user.email not in {each["email"] for each in (await admin.get(URL)).json()}
    every = (await admin.get(URL, params={"include_inactive": True})).json()
    assert user.email in {each["email"] for each in every}

    assert (await end(admin, user, how)).status_code in (200, 204)
    back = await create(admin, user.email)
    assert back.status_code == 201
    assert back.json()["id"] == str(user.id)
    assert await roles_of(admin, user.id) == ["GuestUsers"]
    assert (await key.get("/auth/me")).status_code == 401
    answer = await client.post("/auth/refresh", json={"refresh_token": refresh})
    assert answer.status_code == 401


async def test_reactivation_by_patch(as_, context):
    admin = await as_("admin")
    user = await make_user(context)
    await end(admin, user, "delete")
    answer = await admin.patch(f"{URL}/{user.id}", json={"is_active": True})
    assert answer.json()["is_active"] is True
    assert await roles_of(admin, user.id) == ["GuestUsers"]


@pytest.mark.parametrize("how", ["delete", "patch"])
async def test_nobody_ends_themselves_or_the_superadmin(as_, context, how):
    admin = await as_("admin")
    assert (await end(admin, await as_.user("admin"), how)).status_code == 400
    second = await as_(await make_user(context, roles=("Admins",)))
    assert (await end(second, await as_.user("admin"), how)).status_code == 403
    assert (await admin.get("/auth/me")).status_code == 200


async def test_the_last_admin_stays(as_, context):
    """Another address than the superadmin's holds the fort."""
    superadmin = await as_.user("admin")
    last = await make_user(context, roles=("Admins",))
    manager = await as_(
        await make_user(
            context, permissions=["sinas.users.delete:all", "sinas.users.read:all"], roles=()
        )
    )
    async with context.unit() as unit:
        from sinas.models import UserRole

        await unit.session.execute(
            update(UserRole).where(UserRole.user_id == superadmin.id).values(active=False)
        )
    assert (await end(manager, last, "delete")).status_code == 403
    await make_user(context, roles=("Admins",))
    assert (await end(manager, last, "delete")).status_code == 204


async def test_two_admins_cannot_end_each_other(as_, context):
    from sinas.models import UserRole

    first = await make_user(context, roles=("Admins",))
    second = await make_user(context, roles=("Admins",))
    superadmin = await as_.user("admin")
    async with context.unit() as unit:
        await unit.session.execute(
            update(UserRole).where(UserRole.user_id == superadmin.id).values(active=False)
        )
    as_first, as_second = await as_(first), await as_(second)
    async with asyncio.TaskGroup() as group:
        one = group.create_task(end(as_first, second, "delete"))
        two = group.create_task(end(as_second, first, "delete"))
    assert sorted([one.result().status_code, two.result().status_code])[0] == 204
    alive = [
        client
        for client in (as_first, as_second)
        if (await client.get("/auth/me")).status_code == 200
    ]
    assert len(alive) == 1


async def test_a_limited_key_of_an_admin_manages_nobody(as_):
    client = await as_.key("admin", ["sinas.users.read:all"])
    assert (await client.get(URL)).status_code == 200
    assert (await create(client)).status_code == 403


async def test_search_does_not_choke_on_what_cannot_be_stored(as_):
    answer = await (await as_("admin")).get(URL, params={"search": "\x00"})
    assert answer.status_code == 422


async def test_a_domain_role_of_everything_needs_an_admin(as_, context):
    """Whoever may edit roles cannot make the next colleague an administrator."""
    editor = await as_(
        await make_user(context, permissions=["sinas.roles.update:all", "sinas.roles.read:all"])
    )
    answer = await editor.patch("/api/v1/roles/Admins", json={"email_domain": "example.com"})
    assert answer.status_code == 403
    async with context.unit() as unit:
        from sqlalchemy import select

        domain = await unit.session.scalar(select(Role.email_domain).where(Role.name == "Admins"))
    assert domain is None
