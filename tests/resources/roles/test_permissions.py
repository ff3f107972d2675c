"""Permission keys of roles over HTTP."""

import pytest

from sinas.auth.permissions import DEFAULT_ROLES, REGISTRY
from tests.factories.identity import make_role, make_user

URL = "/api/v1/roles"


async def grant(client, role, key, value=True):
    body = {"permission_key": key, "permission_value": value}
    return await client.post(f"{URL}/{role}/permissions", json=body)


async def revoke(client, role, key):
    return await client.delete(f"{URL}/{role}/permissions", params={"permission_key": key})


async def keys(client, role):
    rows = (await client.get(f"{URL}/{role}/permissions")).json()
    return {row["permission_key"]: row["permission_value"] for row in rows}


async def test_grant_switch_off_and_remove(as_, context):
    admin = await as_("admin")
    await make_role(context, name="Sales")
    answer = await grant(admin, "Sales", "sinas.agents/sales/*.chat:all")
    assert answer.status_code == 200
    assert answer.json().keys() == {
        *("id", "role_id", "permission_key", "permission_value", "created_at", "updated_at"),
    }
    assert await keys(admin, "Sales") == {"sinas.agents/sales/*.chat:all": True}
    off = await grant(admin, "Sales", "sinas.agents/sales/*.chat:all", False)
    assert off.json()["id"] == answer.json()["id"]
    assert off.json()["permission_value"] is False
    assert await keys(admin, "Sales") == {"sinas.agents/sales/*.chat:all": False}
    assert (await revoke(admin, "Sales", "sinas.agents/sales/*.chat:all")).status_code == 204
    assert await keys(admin, "Sales") == {}
    assert (await revoke(admin, "Sales", "sinas.agents/sales/*.chat:all")).status_code == 404


async def test_a_granted_key_acts_at_once(as_, context):
    admin = await as_("admin")
    await make_role(context, name="Sales")
    user = await as_(await make_user(context, roles=("Sales",)))
    assert (await user.get("/api/v1/users")).status_code == 403
    await grant(admin, "Sales", "sinas.users.read:all")
    assert (await user.get("/api/v1/users")).status_code == 200
    await grant(admin, "Sales", "sinas.users.read:all", False)
    assert (await user.get("/api/v1/users")).status_code == 403


async def test_keys_of_other_services_are_welcome(as_, context):
    await make_role(context, name="Sales")
    user = await as_(await make_user(context, roles=("Sales",)))
    assert (await grant(await as_("admin"), "Sales", "titan.*:own")).status_code == 200
    body = {"permissions": ["titan.student_profile.read:own"]}
    answer = await user.post("/auth/check-permissions", json=body)
    assert answer.json()["result"] is True


@pytest.mark.parametrize("key", ["", "sinas:all", "sinas.users.read", "sinas.users.read:mine"])
async def test_malformed_keys(as_, context, key):
    await make_role(context, name="Sales")
    answer = await grant(await as_("admin"), "Sales", key)
    assert answer.status_code == 422
    assert "<action>:<scope>" in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "permission_key"
    assert await keys(await as_("admin"), "Sales") == {}


async def test_admins_stay_as_they_are(as_):
    admin = await as_("admin")
    for answer in (
        await grant(admin, "Admins", "sinas.users.read:all"),
        await grant(admin, "Admins", "sinas.*:all", False),
        await revoke(admin, "Admins", "sinas.*:all"),
    ):
        assert answer.status_code == 403
    assert await keys(admin, "Admins") == {"sinas.*:all": True}


async def test_everything_cannot_be_taken_from_any_role(as_, context):
    admin = await as_("admin")
    await make_role(context, name="Owners")
    assert (await grant(admin, "Owners", "sinas.*:all")).status_code == 200
    assert (await grant(admin, "Owners", "sinas.*:all", False)).status_code == 403
    assert (await revoke(admin, "Owners", "sinas.*:all")).status_code == 403
    assert (await admin.delete(f"{URL}/Owners")).status_code == 204


async def test_nobody_grants_what_they_do_not_hold(as_, context):
    held = [
        "sinas.roles.manage_permissions:all",
        "sinas.roles.read:all",
        "sinas.agents/sales/*.chat:all",
    ]
    await make_role(context, name="Sales")
    manager = await as_(await make_user(context, permissions=held, roles=()))
    for key in ("sinas.*:all", "sinas.agents/*/*.chat:all", "titan.x.read:own"):
        refused = await grant(manager, "Sales", key)
        assert refused.status_code == 403
        assert f"'{key}'" in refused.json()["detail"]
    assert (await grant(manager, "Sales", "sinas.agents/sales/bot.chat:own")).status_code == 200
    assert (await grant(manager, "Sales", "sinas.users.read:all", False)).status_code == 200


async def test_reference_is_for_everybody(as_, client):
    rows = (await (await as_("guest")).get(f"{URL}/permissions/reference")).json()
    assert len(rows) == len(REGISTRY)
    by_name = {row["resource"]: row for row in rows}
    assert by_name["agents"]["namespaced"] is True
    assert "chat" in by_name["agents"]["actions"]
    assert by_name["roles"]["adminOnly"] is True
    assert all(row["description"] for row in rows)
    assert (await client.get(f"{URL}/permissions/reference")).status_code == 401


async def test_defaults(as_):
    found = (await (await as_("admin")).get(f"{URL}/permissions/defaults")).json()
    assert found == {role: dict.fromkeys(keys, True) for role, keys in DEFAULT_ROLES.items()}


async def test_a_role_called_permissions_is_a_role(as_, context):
    admin = await as_("admin")
    await make_role(context, name="permissions")
    assert (await admin.get(f"{URL}/permissions")).json()["name"] == "permissions"
    assert await keys(admin, "permissions") == {}
