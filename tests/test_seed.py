"""What every start makes sure of."""

import asyncio
import dataclasses

import pytest
from sqlalchemy import delete, func, select, update

from sinas.auth.permissions import ADMIN_ROLE, DEFAULT_ROLES, GUEST_ROLE, USER_ROLE
from sinas.db.base import Base
from sinas.models import Role, RolePermission, User, UserRole
from sinas.seed import seed
from tests.factories.identity import make_user
from tests.fixtures.configuration import changed

ADMIN = "admin@example.com"


async def keys_of(context, role):
    async with context.unit() as unit:
        rows = await unit.session.execute(
            select(RolePermission.permission_key, RolePermission.permission_value)
            .join(Role, Role.id == RolePermission.role_id)
            .where(Role.name == role)
        )
        return {row.permission_key: row.permission_value for row in rows}


async def admins(context):
    async with context.unit() as unit:
        return set(
            await unit.session.scalars(
                select(User.email)
                .join(UserRole, UserRole.user_id == User.id)
                .join(Role, Role.id == UserRole.role_id)
                .where(Role.name == ADMIN_ROLE, UserRole.active, User.is_active)
            )
        )


async def empty(context):
    async with context.unit() as unit:
        for table in reversed(Base.metadata.sorted_tables):
            await unit.session.execute(delete(table))


@pytest.mark.parametrize("role", sorted(DEFAULT_ROLES))
async def test_default_roles_are_complete(context, role):
    assert await keys_of(context, role) == dict.fromkeys(DEFAULT_ROLES[role], True)


async def test_processes_that_start_together(context):
    await empty(context)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(seed(context))
    async with context.unit() as unit:
        assert await unit.session.scalar(select(func.count()).select_from(Role)) == 3
        assert await unit.session.scalar(select(func.count()).select_from(User)) == 1
        assert await unit.session.scalar(select(func.count()).select_from(UserRole)) == 1
    assert await admins(context) == {ADMIN}


async def test_removed_keys_come_back_and_changed_values_stay(context):
    async with context.unit() as unit:
        await unit.session.execute(
            delete(RolePermission).where(
                RolePermission.permission_key == "sinas.api_keys.create:own"
            )
        )
        await unit.session.execute(
            update(RolePermission)
            .where(RolePermission.permission_key.in_(["sinas.logs.read:own", "sinas.*:all"]))
            .values(permission_value=False)
        )
        guests = await unit.session.scalar(select(Role.id).where(Role.name == GUEST_ROLE))
        unit.session.add(
            RolePermission(role_id=guests, permission_key="titan.x.read:own", permission_value=True)
        )
    await seed(context)
    users = await keys_of(context, USER_ROLE)
    assert users["sinas.api_keys.create:own"] is True
    assert users["sinas.logs.read:own"] is False
    assert await keys_of(context, ADMIN_ROLE) == {"sinas.*:all": True}
    assert "titan.x.read:own" in await keys_of(context, GUEST_ROLE)


async def test_the_superadmin_is_not_forced_on_an_installation_that_has_an_admin(context):
    other = await make_user(context, roles=(ADMIN_ROLE,))
    async with context.unit() as unit:
        await unit.session.execute(
            update(UserRole)
            .where(UserRole.user_id.in_(select(User.id).where(User.email == ADMIN)))
            .values(active=False)
        )
    await seed(context)
    assert await admins(context) == {other.email}


@pytest.mark.parametrize("what", ["membership", "user"])
async def test_without_an_active_admin_the_superadmin_comes_back(context, what):
    async with context.unit() as unit:
        if what == "membership":
            await unit.session.execute(update(UserRole).values(active=False))
        else:
            await unit.session.execute(update(User).values(is_active=False))
    await seed(context)
    assert await admins(context) == {ADMIN}


async def test_the_superadmins_address_comes_from_the_settings(context):
    await empty(context)
    settings = changed(context.settings, auth={"superadmin_email": " Root@Corp.Example "})
    await seed(dataclasses.replace(context, settings=settings))
    assert await admins(context) == {"root@corp.example"}
