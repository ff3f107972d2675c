"""Roles over HTTP: themselves and their members."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import update

from sinas.auth.permissions import ADMIN_ROLE, DEFAULT_ROLES
from sinas.models import UserRole
from tests.factories.identity import make_role, make_user

URL = "/api/v1/roles"


async def create(client, name="Sales", **body):
    return await client.post(URL, json={"name": name, **body})


async def join(client, role, user_id):
    return await client.post(f"{URL}/{role}/members", json={"user_id": str(user_id)})


async def test_create_read_update_delete(as_):
    admin = await as_("admin")
    answer = await create(admin, description="Sells", email_domain="Sales.Example")
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == {
        *("id", "name", "description", "email_domain", "created_at", "updated_at"),
    }
    assert made["email_domain"] == "sales.example"
    assert (await admin.get(f"{URL}/Sales")).json() == made

    changed = await admin.patch(f"{URL}/Sales", json={"description": None})
    assert changed.status_code == 200
    assert changed.json()["description"] is None
    assert changed.json()["email_domain"] == "sales.example"
    assert changed.json()["updated_at"] > made["updated_at"]
    renamed = await admin.patch(f"{URL}/Sales", json={"name": "Sellers", "email_domain": None})
    assert renamed.json()["name"] == "Sellers"
    assert renamed.json()["email_domain"] is None
    assert (await admin.get(f"{URL}/Sales")).status_code == 404

    assert (await admin.delete(f"{URL}/Sellers")).status_code == 204
    assert (await admin.get(f"{URL}/Sellers")).status_code == 404


async def test_the_creator_is_a_member(as_):
    admin = await as_("admin")
    await create(admin)
    (member,) = (await admin.get(f"{URL}/Sales/members")).json()
    assert member.keys() == {"id", "role_id", "user_id", "user_email", "active", "added_at"}
    assert member["user_email"] == "admin@example.com"
    assert member["active"] is True


async def test_a_taken_name(as_):
    admin = await as_("admin")
    await create(admin)
    assert (await create(admin)).status_code == 400
    await create(admin, "Other")
    answer = await admin.patch(f"{URL}/Other", json={"name": "Sales"})
    assert answer.status_code == 400
    assert "Sales" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": "x" * 256},
        {"name": "a/b"},
        {"name": "a\x00b"},
        {"name": "ok", "email_domain": "ann@example.com"},
        {"name": "ok", "email_domain": ""},
        {"name": "ok", "is_builtin": True},
    ],
)
async def test_malformed_roles(as_, body):
    assert (await (await as_("admin")).post(URL, json=body)).status_code == 422


async def test_lists_are_sorted_and_paged(as_):
    admin = await as_("admin")
    await create(admin)
    names = [role["name"] for role in (await admin.get(URL)).json()]
    assert names == ["Admins", "GuestUsers", "Sales", "Users"]
    page = (await admin.get(URL, params={"skip": 1, "limit": 2})).json()
    assert [role["name"] for role in page] == ["GuestUsers", "Sales"]
    assert (await admin.get(URL, params={"limit": 1001})).status_code == 422


async def test_everybody_sees_their_own_roles_only(as_):
    user = await as_("user")
    assert [role["name"] for role in (await user.get(URL)).json()] == ["Users"]
    assert (await user.get(f"{URL}/Users")).status_code == 200
    assert (await user.get(f"{URL}/Admins")).status_code == 404
    assert (await user.get(f"{URL}/Unheard")).status_code == 404
    assert (await user.get(f"{URL}/Users/members")).status_code == 403
    assert (await user.get(f"{URL}/Users/permissions")).status_code == 403
    assert (await user.get(f"{URL}/Admins/members")).status_code == 404
    nobody = await as_("nobody")
    assert (await nobody.get(URL)).json() == []


async def test_users_manage_no_roles(as_):
    user = await as_("user")
    other = await as_.user("other")
    assert (await create(user)).status_code == 403
    assert (await user.patch(f"{URL}/Users", json={})).status_code == 403
    assert (await user.delete(f"{URL}/Users")).status_code == 403
    assert (await join(user, "Users", other.id)).status_code == 403
    assert (await user.delete(f"{URL}/Users/members/{other.id}")).status_code == 403
    assert (await user.get(f"{URL}/permissions/defaults")).status_code == 403
    body = {"permission_key": "sinas.*:all", "permission_value": True}
    assert (await user.post(f"{URL}/Users/permissions", json=body)).status_code == 403


@pytest.mark.parametrize("name", sorted(DEFAULT_ROLES))
async def test_built_in_roles_keep_their_names(as_, name):
    admin = await as_("admin")
    assert (await admin.delete(f"{URL}/{name}")).status_code == 403
    assert (await admin.patch(f"{URL}/{name}", json={"name": "Other"})).status_code == 403
    same = await admin.patch(f"{URL}/{name}", json={"name": name, "description": "Changed"})
    assert same.status_code == 200
    assert same.json()["description"] == "Changed"


async def test_members_come_and_go(as_, context):
    admin = await as_("admin")
    role = await make_role(context, ["sinas.system.read:all"])
    user = await make_user(context)
    client = await as_(user)
    answer = await join(admin, role.name, user.id)
    assert answer.status_code == 200
    assert answer.json()["user_email"] == user.email
    body = {"permissions": ["sinas.system.read:all"]}
    check = "/auth/check-permissions"
    assert (await client.post(check, json=body)).json()["result"] is True

    again = await join(admin, role.name, user.id)
    assert again.status_code == 400
    assert "already a member" in again.json()["detail"]

    url = f"{URL}/{role.name}/members/{user.id}"
    assert (await admin.delete(url)).status_code == 204
    assert (await admin.delete(url)).status_code == 404
    assert (await admin.get(f"{URL}/{role.name}/members")).json() == []
    assert (await client.post(check, json=body)).json()["result"] is False
    back = await join(admin, role.name, user.id)
    assert back.status_code == 200
    assert back.json()["added_at"] > answer.json()["added_at"]


async def test_who_cannot_become_a_member(as_, context):
    admin = await as_("admin")
    gone = await make_user(context, is_active=False)
    for user_id in (uuid4(), gone.id):
        assert (await join(admin, "Users", user_id)).status_code == 404
    assert (await join(admin, "Unheard", uuid4())).status_code == 404
    assert (await join(admin, "Users", "no-uuid")).status_code == 422


async def test_a_deleted_role_grants_nothing_any_more(as_, context):
    role = await make_role(context, ["sinas.system.read:all"])
    user = await make_user(context, roles=(role.name,))
    await (await as_("admin")).delete(f"{URL}/{role.name}")
    assert (await (await as_(user)).get("/auth/me")).json()["roles"] == []


async def test_the_superadmin_stays_in_admins(as_, context):
    second = await as_(await make_user(context, roles=("Admins",)))
    superadmin = await as_.user("admin")
    answer = await second.delete(f"{URL}/Admins/members/{superadmin.id}")
    assert answer.status_code == 403
    assert (await (await as_("admin")).get("/auth/me")).json()["roles"] == ["Admins"]


async def test_the_last_active_admin_stays(as_, context):
    """A deactivated member does not count."""
    superadmin = await as_.user("admin")
    first = await make_user(context, roles=("Admins",))
    second = await make_user(context, roles=("Admins",))
    await make_user(context, roles=("Admins",), is_active=False)
    async with context.unit() as unit:
        await unit.session.execute(
            update(UserRole).where(UserRole.user_id == superadmin.id).values(active=False)
        )
    as_first, as_second = await as_(first), await as_(second)
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(as_first.delete(f"{URL}/Admins/members/{second.id}")),
            group.create_task(as_second.delete(f"{URL}/Admins/members/{first.id}")),
        ]
    assert sorted(each.result().status_code for each in tries) == [204, 403]


async def test_who_manages_members_hands_out_no_rights_they_lack(as_, context):
    keys = ["sinas.roles.manage_members:all", "sinas.roles.read:all", "sinas.system.read:all"]
    manager = await make_user(context, permissions=keys, roles=())
    client = await as_(manager)
    harmless = await make_role(context, ["sinas.system.read:own"])
    assert (await join(client, harmless.name, manager.id)).status_code == 200
    refused = await join(client, ADMIN_ROLE, manager.id)
    assert refused.status_code == 403
    assert "sinas.*:all" in refused.json()["detail"]
    assert (await join(client, "Users", manager.id)).status_code == 403
